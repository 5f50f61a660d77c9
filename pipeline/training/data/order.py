"""Order of a run: which samples form each global batch, which rank computes them, and how each is cropped and flipped.

All of this is a pure function of (seed, epoch, sample). It does not depend on the number of workers or on what happened
before, so a run can be resumed at any step, on any number of workers, and sees what it would have seen.

Random numbers come from hashing counters, not from a generator with a state. Any number can be had without those before
it, and none depends on a library's version.

Shapes: n is the number of samples of a global batch. Epochs and steps are counted from 0.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np

Side = Literal["a", "b"]


@dataclass(frozen=True, kw_only=True)
class Order:
    """Parameters that decide the order of a run."""

    seed: int
    images_a: int
    images_b: int
    paired: bool
    """True where each image of A belongs to the image of B with its number; else a sample draws a random image of B."""
    global_batch: int

    @property
    def samples_per_epoch(self) -> int:
        """Number of samples in an epoch: each image of the larger side once; a smaller A repeats from the start."""
        return max(self.images_a, self.images_b)

    @property
    def steps_per_epoch(self) -> int:
        """Number of global batches in an epoch; the last one may be short."""
        return -(-self.samples_per_epoch // self.global_batch)

    def samples_in(self, step: int) -> int:
        """Return the number of samples in the global batch of `step`."""
        return min(self.global_batch, self.samples_per_epoch - step % self.steps_per_epoch * self.global_batch)


@dataclass(frozen=True)
class Samples:
    """Samples of one global batch, or of one rank's part of it, in order."""

    epoch: int
    number: np.ndarray
    """Numbers of the samples, int64 [n], below `samples_per_epoch`; each comes once in an epoch."""
    a: np.ndarray
    """Indices of the images of A, int64 [n]."""
    b: np.ndarray
    """Indices of the images of B, int64 [n]."""

    def part(self, share: slice) -> Samples:
        """Return the samples of one rank."""
        return Samples(self.epoch, self.number[share], self.a[share], self.b[share])

    def __len__(self) -> int:
        return len(self.number)


@dataclass(frozen=True)
class Augmentation:
    """Crops and flips of a batch's samples on one side; the arrays have shape [n]."""

    top: np.ndarray
    """Top edges of the crops in pixels, int64."""
    left: np.ndarray
    """Left edges of the crops in pixels, int64."""
    flip: np.ndarray
    """True for samples that are mirrored left to right, bool."""


def global_batch(order: Order, step: int) -> Samples:
    """Return the samples of the global batch of `step`; the last batch of an epoch may be short."""
    epoch, index = divmod(step, order.steps_per_epoch)
    start = index * order.global_batch
    number = _permutation(order.seed, epoch, order.samples_per_epoch)[start : start + order.global_batch]
    a = number % order.images_a
    if order.paired:
        return Samples(epoch, number, a, a)
    return Samples(epoch, number, a, _random_below(order.images_b, order.seed, _Draw.PARTNER, epoch, number))


def share(samples: int, rank: int, workers: int) -> slice:
    """Return the part of a global batch of `samples` that `rank` computes.

    The parts are contiguous, disjoint and as even as possible. Earlier ranks have the larger parts, so rank 0 always
    has a sample; later ranks have none where samples < workers.
    """
    each, remainder = divmod(samples, workers)
    start = rank * each + min(rank, remainder)
    return slice(start, start + each + (rank < remainder))


def shares(samples: int, workers: int) -> list[slice]:
    """Return the part of each rank."""
    return [share(samples, rank, workers) for rank in range(workers)]


def augmentation(order: Order, samples: Samples, side: Side, *, room: int, flip: bool) -> Augmentation:
    """Return crops with offsets of 0 to `room` pixels (inclusive), and flips of half of the samples.

    Both images of a pair get the same; unpaired images of B get their own.
    """
    purpose_offset = 0 if order.paired or side == "a" else _B_OFFSET
    seed, epoch, number = order.seed, samples.epoch, samples.number
    return Augmentation(
        top=_random_below(room + 1, seed, _Draw.TOP + purpose_offset, epoch, number),
        left=_random_below(room + 1, seed, _Draw.LEFT + purpose_offset, epoch, number),
        flip=(_random_below(2, seed, _Draw.FLIP + purpose_offset, epoch, number) == 1) & flip,
    )


def step_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of torch's generator on `rank` before `step`, for dropout; 63 bits."""
    return int(counter_hash(seed, _Draw.STEP, step, np.array([rank]))[0] >> np.uint64(1))


_B_OFFSET = 6
"""Offset of the purposes of unpaired images of B."""


class _Draw(IntEnum):
    """Purposes of random numbers; each has its own numbers. 6 to 11 are those of B."""

    ORDER = 0
    PARTNER = 1
    TOP = 2
    LEFT = 3
    FLIP = 4
    STEP = 5


@functools.lru_cache(maxsize=2)  # sorting a large set at every step would be a waste
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    order = np.argsort(counter_hash(seed, _Draw.ORDER, epoch, np.arange(count)), kind="stable")
    order.flags.writeable = False
    return order


def _random_below(limit: int, seed: int, draw: int, epoch: int, number: np.ndarray) -> np.ndarray:
    """Return random integers in [0, limit), int64, one for each number."""
    return (counter_hash(seed, draw, epoch, number) % np.uint64(limit)).astype(np.int64)


def counter_hash(seed: int, draw: int, epoch: int, number: np.ndarray) -> np.ndarray:
    """Return a random number for each counter, uint64 with the shape of `number`.

    Each word of the counter is mixed in with the finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable
    pseudorandom number generators", figure 16).
    """
    state = np.zeros(number.shape, np.uint64)
    for word in (np.full(number.shape, seed), np.full(number.shape, draw), np.full(number.shape, epoch), number):
        state = state + word.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state
