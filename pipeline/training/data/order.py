"""Which samples meet in which global batch, who computes them, and how each is cropped and flipped.

All of it are pure functions of (seed, epoch, sample): they do not know how many workers there are or what happened
before, so a run can be resumed at any step, on any number of workers, and sees what it would have seen.

Randomness comes from hashing counters, not from a generator with a state: any number can be had without those before
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
    """What decides the order of a run."""

    seed: int
    images_a: int
    images_b: int
    paired: bool
    """Each image of A belongs to the image of B with its number; else B is drawn at random for each sample."""
    global_batch: int

    @property
    def samples_per_epoch(self) -> int:
        """Every image of the larger side once; those of A again from the start where A is the smaller one."""
        return max(self.images_a, self.images_b)

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of an epoch; the last one may be short."""
        return -(-self.samples_per_epoch // self.global_batch)

    def samples_in(self, step: int) -> int:
        """Samples of the global batch of `step`."""
        return min(self.global_batch, self.samples_per_epoch - step % self.steps_per_epoch * self.global_batch)


@dataclass(frozen=True)
class Samples:
    """The samples of one global batch, or of one rank's part of it, in order."""

    epoch: int
    number: np.ndarray
    """int64 [n], below `samples_per_epoch`; each number comes once in an epoch."""
    a: np.ndarray
    """int64 [n], which image of A."""
    b: np.ndarray
    """int64 [n], which image of B."""

    def part(self, share: slice) -> Samples:
        """The samples of one rank."""
        return Samples(self.epoch, self.number[share], self.a[share], self.b[share])

    def __len__(self) -> int:
        return len(self.number)


@dataclass(frozen=True)
class Augmentation:
    """How the samples of a batch are cropped and flipped on one side; the arrays are of shape [n]."""

    top: np.ndarray
    """int64, pixels."""
    left: np.ndarray
    """int64, pixels."""
    flip: np.ndarray
    """bool, mirrored left to right."""


def global_batch(order: Order, step: int) -> Samples:
    """The samples of the global batch of `step`, the last one of an epoch as short as it is."""
    epoch, index = divmod(step, order.steps_per_epoch)
    start = index * order.global_batch
    number = _permutation(order.seed, epoch, order.samples_per_epoch)[start : start + order.global_batch]
    a = number % order.images_a
    if order.paired:
        return Samples(epoch, number, a, a)
    return Samples(epoch, number, a, _below(order.images_b, order.seed, _Draw.PARTNER, epoch, number))


def share(samples: int, rank: int, workers: int) -> slice:
    """The part of a global batch of `samples` that `rank` computes: contiguous, as even as can be, none twice.

    Earlier ranks have the larger parts, so rank 0 is never without a sample; later ones are where samples < workers.
    """
    each, more = divmod(samples, workers)
    start = rank * each + min(rank, more)
    return slice(start, start + each + (rank < more))


def shares(samples: int, workers: int) -> list[slice]:
    """The part of each rank."""
    return [share(samples, rank, workers) for rank in range(workers)]


def augmentation(order: Order, samples: Samples, side: Side, *, room: int, flip: bool) -> Augmentation:
    """Crops with offsets 0 to `room` pixels (inclusive) and flips of half of the samples.

    Both halves of a pair get the same; unpaired images of B get their own.
    """
    own = 0 if order.paired or side == "a" else _OF_B
    seed, epoch, number = order.seed, samples.epoch, samples.number
    return Augmentation(
        top=_below(room + 1, seed, _Draw.TOP + own, epoch, number),
        left=_below(room + 1, seed, _Draw.LEFT + own, epoch, number),
        flip=(_below(2, seed, _Draw.FLIP + own, epoch, number) == 1) & flip,
    )


def step_seed(seed: int, step: int, rank: int) -> int:
    """What torch's generator of `rank` is seeded with before `step`, for dropout; 63 bits."""
    return int(counter_hash(seed, _Draw.STEP, step, np.array([rank]))[0] >> np.uint64(1))


_OF_B = 6
"""Added to the purpose of a draw for unpaired images of B."""


class _Draw(IntEnum):
    """What a random number is for; each purpose has numbers of its own. 6 to 11 are those of B."""

    ORDER = 0
    PARTNER = 1
    TOP = 2
    LEFT = 3
    FLIP = 4
    STEP = 5


@functools.lru_cache(maxsize=2)  # pure, but to sort a large set at every step would be a waste
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    order = np.argsort(counter_hash(seed, _Draw.ORDER, epoch, np.arange(count)), kind="stable")
    order.flags.writeable = False
    return order


def _below(limit: int, seed: int, draw: int, epoch: int, number: np.ndarray) -> np.ndarray:
    """int64 in [0, limit), one for each number."""
    return (counter_hash(seed, draw, epoch, number) % np.uint64(limit)).astype(np.int64)


def counter_hash(seed: int, draw: int, epoch: int, number: np.ndarray) -> np.ndarray:
    """A random number for each counter, uint64 of the shape of `number`.

    Each word of the counter is mixed in by the finaliser of SplitMix64.

    (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", figure 16.)
    """
    state = np.zeros(number.shape, np.uint64)
    for word in (np.full(number.shape, seed), np.full(number.shape, draw), np.full(number.shape, epoch), number):
        state = state + word.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state
