"""FID, KID, and precision and recall of the manifold, of two sets of features.

FID: Heusel et al. 2017, https://arxiv.org/abs/1706.08500. KID: Bińkowski et al. 2018,
https://arxiv.org/abs/1801.01401, by torchmetrics' estimate for a subset. Precision and recall: Kynkäänniemi et al.
2019, https://arxiv.org/abs/1904.06991.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.scores.sets.sampling import Sample
from pipeline.scores.sets.sums import Moments

NEIGHBOUR = 3
"""Neighbour that decides how far an image's part of the manifold reaches, as published."""
_ROWS = 1024
"""Rows whose distances to all others are computed at once."""


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
        """Return the standard error of the mean.

        Subsets have images in common, so more of them do not make it arbitrarily small: what is left is the error of
        one subset that has all images.
        """
        share = min(1.0, 1 / len(self.values) + self.size / max(self.images, 1))
        return float(np.std(self.values) * math.sqrt(share))


def largest_subset(real: Sample, other: Sample) -> int:
    """Return the images that a subset of KID may have: those of one key are in one of the two sets at a time."""
    both = len(np.intersect1d(real.places, other.places))
    return min(len(real), len(other)) - (both - both // 2)


def kernel_distance(real: Sample, other: Sample, *, size: int, subsets: int, seed: int = 0) -> Kernel:
    """Return KID by random subsets of `size` images of two samples, whose values are features [N, D].

    Subsets are drawn by the images' places, the same for all sets that have them. Where both samples have an image, a
    subset has it from one of them alone: an image and its own translation, or twice the same image, are not
    independent, and would seem closer than the sets are. Raises ValueError where there are too few images.
    """
    from torchmetrics.image.kid import poly_mmd

    if size < 2 or size > largest_subset(real, other):
        raise ValueError(f"subsets of {size} images need more than the {len(real)} and {len(other)} that there are")
    features = [torch.from_numpy(np.asarray(each.values, np.float64)) for each in (real, other)]
    found = []
    for subset in range(subsets):
        rows = _drawn(real.places, other.places, size, seed * subsets + subset)
        one, two = (every[torch.from_numpy(some)] for every, some in zip(features, rows, strict=True))
        found.append(float(poly_mmd(one, two)))
    return Kernel(values=np.array(found), size=size, images=min(len(real), len(other)))


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


@dataclass(frozen=True, kw_only=True)
class Manifold:
    """Which images of one set are within the manifold of the other; the means are precision and recall."""

    precise: np.ndarray
    """For each image of the other set, whether it is among the real ones, bool [N]."""
    recalled: np.ndarray
    """For each real image, whether it is among the others, bool [M]."""


def manifold(real: Sample, other: Sample) -> Manifold:
    """Return precision and recall image by image. Raises ValueError for sets of no more than three images."""
    if min(len(real), len(other)) <= NEIGHBOUR:
        raise ValueError(f"precision and recall need more than {NEIGHBOUR} images a set")
    one, two = (torch.from_numpy(np.asarray(each.values, np.float64)) for each in (real, other))
    return Manifold(precise=_within(two, one), recalled=_within(one, two))


def _within(some: Tensor, manifold_ND: Tensor) -> np.ndarray:
    """Return, for each row of `some`, whether it is as near to a row of the manifold as that one's neighbour."""
    radii = torch.cat(
        [
            torch.cdist(rows, manifold_ND, compute_mode="donot_use_mm_for_euclid_dist")
            .kthvalue(NEIGHBOUR + 1, dim=1)
            .values
            for rows in manifold_ND.split(_ROWS)
        ]
    )
    within = [
        (torch.cdist(rows, manifold_ND, compute_mode="donot_use_mm_for_euclid_dist") <= radii).any(1)
        for rows in some.split(_ROWS)
    ]
    return torch.cat(within).numpy()
