"""Sample of a set of images, drawn by a seeded hash of their keys: the same in whatever order or batches they come.

What cannot be computed from sums (KID, precision and recall, medians, intervals) is computed from such a sample, so
that memory does not grow with the set. Images of one key are in the samples of all sets at once, as far as these have
them: differences between two sets are then those between the same images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def places(keys: Sequence[str], seed: int) -> np.ndarray:
    """Return the place of each key in the draw, uint64 [N]; the lowest are drawn first."""
    salted = (f"{seed}:{key}".encode("utf-8", "surrogatepass") for key in keys)
    digests = b"".join(hashlib.blake2b(each, digest_size=8).digest() for each in salted)
    return np.frombuffer(digests, ">u8").astype(np.uint64)


@dataclass(frozen=True)
class Sample:
    """Rows of a set with the lowest places, in their order."""

    places: np.ndarray
    """Places, uint64 [N], ascending."""
    values: np.ndarray
    """A row of values for each, [N, …]."""

    def __len__(self) -> int:
        return len(self.places)


class Sampler:
    """Keeps the `most` rows with the lowest places among those that come."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = list[tuple[np.ndarray, np.ndarray]]()
        self._rows = 0

    def add(self, at: np.ndarray, values: np.ndarray) -> None:
        """Add rows by their places; [N] and [N, …]."""
        self._held.append((at, np.array(values)))
        self._rows += len(at)
        if self._rows > 2 * self._most:
            self._held = [self._lowest()]
            self._rows = len(self._held[0][0])

    def sample(self) -> Sample:
        """Return what is kept, in the order of its places."""
        return Sample(*self._lowest()) if self._held else Sample(np.zeros(0, np.uint64), np.zeros((0, 0)))

    def _lowest(self) -> tuple[np.ndarray, np.ndarray]:
        at, values = (np.concatenate([each[i] for each in self._held]) for i in range(2))
        order = np.argsort(at, kind="stable")[: self._most]
        return at[order], values[order]
