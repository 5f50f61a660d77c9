"""Exact sums over the features of a set: the same to the last bit in whatever order or batches the images come.

Floating-point sums depend on their order. So features become whole numbers first: multiples of a power of two, chosen
by the largest of them and by how many images there are, such that no sum overflows. Products of such numbers, and sums
of a chunk of them, are exact in float64, where the matrix product is fast; chunks are added up as int64. With up to 20
bits a feature is rounded by a millionth of the largest one at most, which moves a FID by far less than 1e-3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

BITS = 20
"""Most bits of a feature, besides its sign."""
_CHUNK = 4096
"""Rows whose products are added up in float64: 2 × 20 bits and 12 more are 52, and it holds 53."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Step in which the features of a set are counted."""

    exponent: int
    """The step is two to this power."""

    @classmethod
    def of(cls, largest: float, count: int) -> Scale:
        """Return the step for features of at most `largest` in magnitude, of so many images.

        Raises ValueError where a feature is no finite number.
        """
        return cls.of_bits(largest, min(BITS, (62 - max(count, 1).bit_length()) // 2))

    @classmethod
    def of_bits(cls, largest: float, bits: int) -> Scale:
        """Return the step for features of at most `largest` in magnitude, each of so many bits.

        Raises ValueError where a feature is no finite number.
        """
        if not math.isfinite(largest):
            raise ValueError("the extractor gives features that are no finite numbers")
        return cls(exponent=math.frexp(largest)[1] - bits if largest else 0)

    def counted(self, features_ND: np.ndarray) -> np.ndarray:
        """Return features in steps, whole numbers in float64."""
        return np.rint(np.ldexp(features_ND.astype(np.float64), -self.exponent))


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Sum and sum of products of the features of a set, in steps and squared steps."""

    count: int
    scale: Scale
    total: np.ndarray
    """Sum of the features, int64 [D]."""
    products: np.ndarray
    """Sum of their outer products, int64 [D, D]."""

    @property
    def mean(self) -> np.ndarray:
        """Return the mean of the features, float64 [D]."""
        return np.ldexp(self.total.astype(np.float64), self.scale.exponent) / self.count

    @property
    def covariance(self) -> np.ndarray:
        """Return the unbiased covariance, float64 [D, D]. Raises ValueError for fewer than two images."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least two images, and there are {self.count}")
        total = self.total.astype(np.float64)
        products = self.products.astype(np.float64) - np.outer(total, total) / self.count
        return np.ldexp(products, 2 * self.scale.exponent) / (self.count - 1)


def moments(batches: Iterable[np.ndarray], scale: Scale) -> Moments:
    """Add up features, [N, D] a batch, whose magnitude and number `scale` was made for."""
    count, total, products = 0, np.zeros(0, np.int64), np.zeros((0, 0), np.int64)
    for batch in batches:
        for first in range(0, len(batch), _CHUNK):
            steps = scale.counted(batch[first : first + _CHUNK])
            if not count:
                total = np.zeros(steps.shape[1], np.int64)
                products = np.zeros((steps.shape[1], steps.shape[1]), np.int64)
            count += len(steps)
            total += steps.sum(0).astype(np.int64)
            exact = torch.from_numpy(steps)
            products += (exact.T @ exact).numpy().astype(np.int64)
    return Moments(count=count, scale=scale, total=total, products=products)


class Mean:
    """Mean of values that come one batch after the other, the same in whatever order: sums are of whole numbers."""

    _EXPONENT = 80
    """Values are counted in steps of two to the power of minus this, so that none of ours is rounded."""

    def __init__(self) -> None:
        self.count = 0
        """Values that are finite."""
        self.infinite = 0
        self.missing = 0
        self._sum = 0

    def add(self, values: np.ndarray) -> None:
        """Add values, float64 [N]; nan is a missing one, and infinite ones are counted and not averaged."""
        finite = values[np.isfinite(values)]
        self.count += len(finite)
        self.missing += int(np.isnan(values).sum())
        self.infinite += int(np.isinf(values).sum())
        self._sum += sum(map(int, np.rint(np.ldexp(finite, self._EXPONENT)).tolist()))

    @property
    def value(self) -> float:
        """Return the mean of the finite values; infinite where all are, and nan without any value."""
        if self.count:
            return self._sum / (self.count << self._EXPONENT)
        return math.inf if self.infinite else math.nan
