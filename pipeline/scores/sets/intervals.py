"""Bootstrap of scores: how far they would vary with other images of the same kind.

All draws are by one seed. Two sets with samples of the same keys are drawn alike, so that the spread of the difference
of their scores is that of pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.scores.sets.distances import Gaussian

DRAWS = 1000
FRECHET_DRAWS = 100
FRECHET_IMAGES = 1000
"""Images, at most, of a draw of FID: each takes the eigenvalues of a matrix of so many rows."""
CONFIDENCE = 1.96
"""Standard errors on each side that 95% of normally distributed values are within."""
_AT_ONCE = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Replicates:
    """Values of a score in draws with replacement, and how its error shrinks to that of the whole set."""

    values: np.ndarray
    """Float64 [draws]."""
    share: float = 1.0
    """Images of a draw as a share of those that the score is of: its error is the draws' times the root of it."""

    @property
    def standard_error(self) -> float:
        return float(np.std(self.values) * math.sqrt(self.share)) if len(self.values) else math.nan


def mean_replicates(values: np.ndarray, of: int, draws: int = DRAWS, seed: int = 0) -> Replicates:
    """Return means of draws of the values of a sample, float64 [N]; the score is of `of` images.

    Values that are not finite are left out of each mean, as they are out of the score's.
    """
    if not np.isfinite(values).any():
        return Replicates(values=np.full(draws, np.nan))
    there = np.isfinite(values)
    filled, found = np.where(there, values, 0.0), []
    for rows in _drawn(len(values), draws, seed):
        counts = there[rows].sum(1)
        found.append(np.divide(filled[rows].sum(1), counts, out=np.full(len(rows), np.nan), where=counts > 0))
    return Replicates(values=np.concatenate(found), share=min(1.0, len(values) / max(of, 1)))


def _drawn(size: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the rows of all draws, [draws, size], some at a time."""
    generator, step = np.random.Generator(np.random.PCG64(seed)), max(1, _AT_ONCE // size)
    for first in range(0, draws, step):
        yield generator.integers(0, size, (min(step, draws - first), size))


def frechet_replicates(real: Gaussian, sample_ND: np.ndarray, of: int, seed: int = 0) -> Replicates:
    """Return FIDs of draws of a sample's features against a fixed set; the score is of `of` images.

    FID grows as images get fewer, so only the spread of these values says something. tr (S₁ S₂)^½ is the sum of the
    singular values of X R / √(n - 1), with X the centred features of a draw: roots of eigenvalues of an n × n matrix.
    """
    features = np.asarray(sample_ND[:FRECHET_IMAGES], np.float64)
    size = len(features)
    if size < 2:
        return Replicates(values=np.full(FRECHET_DRAWS, np.nan))
    rooted = torch.from_numpy(features) @ torch.from_numpy(real.root)
    gram, own = (rooted @ rooted.T).numpy(), features - real.mean
    found = []
    generator = np.random.Generator(np.random.PCG64(seed))
    for _ in range(FRECHET_DRAWS):
        # A row that is drawn several times counts so many times, and is in the matrix once.
        rows, times = np.unique(generator.integers(0, size, size), return_counts=True)
        drawn, weights = own[rows], times / size
        shift = weights @ drawn
        spread = float(times @ np.square(drawn - shift).sum(1)) / (size - 1)
        centred = _centred(gram[np.ix_(rows, rows)], weights) * np.sqrt(np.outer(times, times))
        values = torch.linalg.eigvalsh(torch.from_numpy(centred))
        common = float(values.clamp_min(0).sqrt().sum()) / math.sqrt(size - 1)
        found.append(float(shift @ shift) + spread + real.trace - 2 * common)
    return Replicates(values=np.array(found), share=min(1.0, size / max(of, 1)))


def _centred(gram_NN: np.ndarray, weights_N: np.ndarray) -> np.ndarray:
    """Return the products of rows about their mean by these weights, whose sum is 1."""
    means = gram_NN @ weights_N
    return gram_NN - means - means[:, None] + weights_N @ means
