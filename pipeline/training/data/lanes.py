"""The order of a set that is streamed: which row of which row group the j-th position of each global batch reads.

A position of the global batch is a *lane*. In each epoch, and on each side, the row groups are shuffled and laid end
to end, and that line is cut into as many pieces as there are lanes, of equal length up to one: lane j owns piece j.
It reads its piece row by row through a shuffle buffer: `buffer` rows are taken, shuffled and handed out, then the next.
What follows from it:

- Each image of the larger side comes exactly once an epoch, and every global batch is full but the last: lanes differ
  by one row at most, and the first ones have it. The smaller side's line goes on with further shuffles of itself until
  it is as long, so each of its images comes as often as any other, or once more.
- A row group that a cut goes through belongs to two lanes (to more, where it is longer than a piece). Even lanes read
  their piece backwards, odd ones forwards, so neighbours have such a row group at the same time, at the beginning or
  at the end of the epoch: a rank that has both lanes fetches it once. All ranks together fetch each row group once,
  and one more for each place where one rank's lanes end and another's begin, on each side. (In a short last batch
  lanes change hands: up to one row group more for each lane in it.)
- The number of workers is no part of it, and the place of a lane at any step is found without the steps before it.
  Who begins in the middle of an epoch fetches what the buffers of that moment hold, and nothing earlier.

Shapes: n is the number of samples of a global batch. Epochs, steps, lanes and rows are counted from 0.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from pipeline.training.data.order import Order, Samples, Side, counter_hash


@dataclass(frozen=True, kw_only=True, eq=False)
class Lanes:
    """What decides the order of a streamed run."""

    order: Order
    edges_a: np.ndarray
    """int64 [row groups + 1], rows of A before each row group, and their sum."""
    edges_b: np.ndarray
    """The same of B."""
    buffer: int
    """Rows of each shuffle buffer."""

    def edges(self, side: Side) -> np.ndarray:
        """Of one side."""
        return self.edges_a if side == "a" else self.edges_b

    @property
    def window(self) -> int:
        """Images that are shuffled among each other, beyond the shuffle of the row groups."""
        return min(self.order.global_batch * self.buffer, self.order.samples_per_epoch)


def global_batch(lanes: Lanes, step: int) -> Samples:
    """The samples of the global batch of `step`, by lane; the last one of an epoch is as short as it is.

    `number` is the number of the image on the larger side, so that it comes once an epoch.
    """
    order = lanes.order
    epoch, index = divmod(step, order.steps_per_epoch)
    count = order.samples_in(step)
    a = _rows(lanes, "a", epoch, index, count)
    b = a if order.paired else _rows(lanes, "b", epoch, index, count)
    return Samples(epoch, a if order.images_a >= order.images_b else b, a, b)


def row_groups(lanes: Lanes, side: Side, rows: np.ndarray) -> np.ndarray:
    """int64, the row group of each row of one side."""
    return np.searchsorted(lanes.edges(side), rows, "right") - 1


def buffered_until(lanes: Lanes, step: int) -> int:
    """The step before which all lanes read from the buffers that are in use at `step`, or from the next ones."""
    per_epoch, size = lanes.order.steps_per_epoch, lanes.buffer
    for _ in range(2):
        epoch, index = divmod(step, per_epoch)
        step = epoch * per_epoch + min((index // size + 1) * size, per_epoch)
    return step


class _Draw(IntEnum):
    """What a random number is for, beside those of `order`; for B one more."""

    GROUPS = 16
    BUFFER = 18


def _rows(lanes: Lanes, side: Side, epoch: int, index: int, count: int) -> np.ndarray:
    """int64 [count], the rows of the first lanes in the batch `index` of an epoch."""
    block, place = divmod(index, lanes.buffer)
    lane = np.arange(count)
    starts, lengths = _pieces(lanes.order)
    within = _shuffled(lanes, side, epoch, block)[:count, place]
    along = np.where(lane % 2, within, lengths[:count] - 1 - within)
    groups, edges = _line(lanes, side, epoch)
    at = starts[:count] + along
    found = np.searchsorted(edges, at, "right") - 1
    return lanes.edges(side)[groups[found]] + at - edges[found]


def _pieces(order: Order) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths of the lanes' pieces of the line, int64 [n] each."""
    each, more = divmod(order.samples_per_epoch, order.global_batch)
    lane = np.arange(order.global_batch)
    return lane * each + np.minimum(lane, more), each + (lane < more)


@functools.lru_cache(maxsize=8)
def _shuffled(lanes: Lanes, side: Side, epoch: int, block: int) -> np.ndarray:
    """int64 [n, rows of a buffer], in which order each lane hands out its rows of this buffer; rows that a lane has
    not got are at the end."""
    _, lengths = _pieces(lanes.order)
    first = block * lanes.buffer
    rows = np.arange(first, min(first + lanes.buffer, int(lengths[0])))
    drawn = counter_hash(
        lanes.order.seed, _Draw.BUFFER + (side == "b"), epoch, (np.arange(len(lengths))[:, None] << 40) + rows
    )
    drawn[rows >= lengths[:, None]] = np.iinfo(np.uint64).max
    return first + np.argsort(drawn, axis=1, kind="stable")


@functools.lru_cache(maxsize=4)  # two sides, and two epochs where one goes over into the next
def _line(lanes: Lanes, side: Side, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The row groups in the order in which they are laid end to end, and the places at which they begin."""
    edges = lanes.edges(side)
    rows = np.diff(edges)
    passes = np.arange(-(-lanes.order.samples_per_epoch // int(edges[-1])))
    drawn = counter_hash(
        lanes.order.seed, _Draw.GROUPS + (side == "b"), epoch, (passes[:, None] << 40) + np.arange(len(rows))
    )
    groups = np.argsort(drawn, axis=1, kind="stable").ravel()
    return groups, np.concatenate([[0], np.cumsum(rows[groups])])
