"""FID and KID of two sets of features.

FID: Heusel et al. 2017, https://arxiv.org/abs/1706.08500. KID: Bińkowski et al. 2018,
https://arxiv.org/abs/1801.01401, the unbiased estimate.

Validation during training has a KID of its own, `kid` in `pipeline/scores/features.py`: its sets have no keys, and the
subsets it draws are those by which earlier runs have chosen their best checkpoint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.scores.sets.pairs import PAIRS, Block
from pipeline.scores.sets.sampling import Sample
from pipeline.scores.sets.sums import Moments


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Real set as a Gaussian, with what FID takes of it, computed once for all sets that are compared with it."""

    mean: np.ndarray
    """Float64 [D]."""
    root: np.ndarray
    """Matrix R, [D, D] or [D, N], whose R Rᵀ is the covariance."""
    trace: float
    """Trace of the covariance."""
    count: int

    @classmethod
    def of(cls, moments: Moments, sample: Sample) -> Gaussian:
        """Return the Gaussian of a set. Raises ValueError for a set of one image.

        Where the sample is the whole set, and has fewer images than features, its centred features are the root.
        """
        covariance = moments.covariance
        if len(sample) == moments.count < len(covariance):
            root = (np.asarray(sample.values, np.float64) - moments.mean).T / math.sqrt(moments.count - 1)
        else:
            variances, axes = torch.linalg.eigh(torch.from_numpy(covariance))
            root = (axes * variances.clamp_min(0).sqrt()).numpy()
        trace = float(np.trace(covariance))
        return cls(mean=moments.mean, root=root, trace=trace, count=moments.count)


def frechet(real: Gaussian, other: Moments) -> float:
    """Return the Fréchet distance of two sets as Gaussians, at least 0. Raises ValueError for a set of one image.

    |μ₁ - μ₂|² + tr S₁ + tr S₂ - 2 tr (S₁ S₂)^½, where the last trace is the sum of the square roots of the eigenvalues
    of Rᵀ S₂ R with S₁ = R Rᵀ: a symmetric matrix, no larger than the number of images, where torchmetrics takes
    the eigenvalues of the product itself.
    """
    covariance = other.covariance
    root = torch.from_numpy(real.root)
    inner = root.T @ torch.from_numpy(covariance) @ root
    common = float(torch.linalg.eigvalsh((inner + inner.T) / 2).clamp_min(0).sqrt().sum())
    shift = real.mean - other.mean
    return max(0.0, float(shift @ shift + real.trace + np.trace(covariance) - 2 * common))


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """KID: its subsets, from which mean and standard error follow."""

    values: np.ndarray
    """Estimate of each subset, float64 [subsets]."""
    size: int
    """Images of each subset, of each set."""
    images: int
    """Images of the smaller sample from which subsets are drawn."""

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def standard_error(self) -> float:
        """Return the standard error of the mean; nan where each subset is the whole set, and nothing is known of it.

        Subsets are drawn without replacement, and have images in common. So their spread is that of a jackknife that
        leaves out all but `size` images (Shao and Wu 1989), and more subsets do not make the error arbitrarily small.
        """
        left_out = self.images - self.size
        if left_out <= 0:
            return math.nan
        return float(np.std(self.values) * math.sqrt(self.size / left_out + 1 / len(self.values)))


def largest_subset(real: Sample, other: Sample) -> int:
    """Return the images that a subset of KID may have: those of one key are in one of the two sets at a time."""
    both = len(np.intersect1d(real.places, other.places))
    return min(len(real), len(other)) - (both - both // 2)


class KernelSums:
    """KID of random subsets of two samples, from the kernel of all pairs of their images.

    Its kernel is the published one, (x·y / D + 1)³. A subset's sum over pairs is a quadratic form of who is in it, so
    all pairs are gone through once, however many subsets there are. Subsets are drawn by the images' places, the same
    for all sets that have them. Where both samples have an image, a subset has it from one of them alone: an image and
    its own translation, or twice the same image, are not independent, and would seem closer than the sets are.
    """

    def __init__(self, real: Sample, other: Sample, *, size: int, subsets: int, seed: int = 0) -> None:
        """Draw the subsets. Raises ValueError where there are too few images for subsets of `size`."""
        if size < 2 or size > largest_subset(real, other):
            raise ValueError(f"subsets of {size} images need more than the {len(real)} and {len(other)} that there are")
        self._size, self._images = size, min(len(real), len(other))
        self._drawn = [torch.zeros(subsets, len(each), dtype=torch.float64) for each in (real, other)]
        for subset in range(subsets):
            chosen = _drawn(real.places, other.places, size, seed * subsets + subset)
            for rows, drawn in zip(chosen, self._drawn, strict=True):
                drawn[subset, torch.from_numpy(rows)] = 1
        self._sums = {which: torch.zeros(subsets, dtype=torch.float64) for which in PAIRS}

    def add(self, block: Block) -> None:
        """Add the pairs of some rows."""
        mine, theirs = (self._drawn[side] for side in PAIRS[block.which])
        kernel = (block.products * (block.unit / block.features) + 1).pow_(3)
        if block.which != "between":
            kernel[torch.arange(len(kernel)), torch.arange(block.first, block.first + len(kernel))] = 0
        rows = mine[:, block.first : block.first + len(kernel)]
        self._sums[block.which] += ((rows @ kernel) * theirs).sum(1)

    def distance(self) -> Kernel:
        """Return KID, once all pairs have been added."""
        size = self._size
        within = (self._sums["real"] + self._sums["other"]) / (size * (size - 1))
        found = within - 2 * self._sums["between"] / size**2
        return Kernel(values=found.numpy(), size=size, images=self._images)


def _drawn(real: np.ndarray, other: np.ndarray, size: int, draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `size` rows of each set, those of no image twice."""
    shuffled = [_mixed(each, draw) for each in (real, other)]
    both, at, beside = np.intersect1d(shuffled[0], shuffled[1], return_indices=True)  # sorted
    first = np.arange(len(both)) % 2 == draw % 2
    rows = []
    for each, left in ((shuffled[0], at[~first]), (shuffled[1], beside[first])):
        there = np.ones(len(each), bool)
        there[left] = False
        free = np.flatnonzero(there)
        rows.append(free[np.argsort(each[free], kind="stable")[:size]])
    return rows[0], rows[1]


def _mixed(values: np.ndarray, draw: int) -> np.ndarray:
    """Return other places for a draw, uint64 [N]: the finaliser of SplitMix64, which maps no two to the same."""
    with np.errstate(over="ignore"):
        x = values + np.uint64((0x9E3779B97F4A7C15 * (draw + 1)) % 2**64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
