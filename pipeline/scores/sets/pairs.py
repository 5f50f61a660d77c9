"""Products of the features of all pairs of two samples: exact, so that no digit depends on threads or blocks.

Features become whole numbers, as in `sums.py`: multiples of a power of two, with as many bits as leave the sum of all
products of a pair, and the square of its distance, exact in float64. They are rounded by a millionth of the largest
feature of both samples, up to 2,048 features; by more beyond that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.cluster import hardware, host
from pipeline.scores.sets.sampling import Sample
from pipeline.scores.sets.sums import BITS, Scale

Which = Literal["real", "other", "between"]
"""Pairs of real images, of the others, or of one of the others and a real one."""
PAIRS: dict[Which, tuple[int, int]] = {"real": (0, 0), "other": (1, 1), "between": (1, 0)}
"""Samples that rows and columns of a block are of: 0 is the real one, 1 the other."""
_ROWS = 256
"""Rows whose products with all others are computed at once."""
_EXACT = 51
"""Bits of a sum of products, such that |x|² + |y|² - 2 x·y has no more than float64 holds."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Products of some rows of one sample with all of a sample."""

    which: Which
    first: int
    """The first of the rows."""
    products: Tensor
    """Products in squared steps, whole numbers in float64, [rows, N]."""
    squares: tuple[Tensor, Tensor]
    """Squared norms of the rows, and of the sample, in squared steps, [rows] and [N]."""
    unit: float
    """Squared step."""
    features: int

    @property
    def squared_distances(self) -> Tensor:
        """Return the squared distances of all pairs, in squared steps, exact, [rows, N]."""
        return self.squares[0][:, None] + self.squares[1] - 2 * self.products


class Taker(Protocol):
    """Score that is computed from the pairs of two samples, block by block."""

    def add(self, block: Block) -> None: ...


def add_all_pairs(real: Sample, other: Sample, *takers: Taker) -> None:
    """Give the blocks of `all_pairs` to each of `takers`, in one pass."""
    for block in all_pairs(real, other):
        for taker in takers:
            taker.add(block)


def all_pairs(real: Sample, other: Sample) -> Iterator[Block]:
    """Yield the products of all pairs, whose values are features [N, D]: those within each sample, then between both.

    Raises ValueError where a feature is no finite number.
    """
    values = [np.asarray(each.values) for each in (real, other)]
    features = values[0].shape[1]
    largest = max(float(np.abs(each).max(initial=0.0)) for each in values)
    bits = min(BITS, (_EXACT - math.ceil(math.log2(max(features, 1)))) // 2)
    scale = Scale.of_bits(largest, bits)
    steps = [torch.from_numpy(scale.counted(each)) for each in values]
    squares = [each.square().sum(1) for each in steps]
    for which, (row, column) in PAIRS.items():
        for first in range(0, len(steps[row]), _ROWS):
            with hardware.torch_threads(host.available_cpus()):
                products = steps[row][first : first + _ROWS] @ steps[column].T
            of_rows = squares[row][first : first + _ROWS]
            yield Block(
                which=which,
                first=first,
                products=products,
                squares=(of_rows, squares[column]),
                unit=math.ldexp(1.0, 2 * scale.exponent),
                features=features,
            )
