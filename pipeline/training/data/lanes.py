"""Order of a streamed set: which row of which row group the j-th position of each global batch reads.

A position of the global batch is called a *lane*. In each epoch, and on each side, the row groups are shuffled and laid
end to end. This line is cut into as many pieces as there are lanes; their lengths differ by one row at most. Lane j
owns piece j. It reads its piece row by row through a shuffle buffer: it takes `buffer` rows, shuffles them, hands them
out and takes the next ones. This has several consequences:

- Each image of the larger side comes exactly once in an epoch, and every global batch but the last is full: lanes
  differ by one row at most, and the first lanes have the extra row. The line of the smaller side continues with further
  shuffles of itself until it is as long, so the counts of its images differ by one at most.
- A row group that a cut goes through belongs to two lanes (to more, if it is longer than a piece). Even lanes read
  their piece backwards and odd ones forwards, so neighbours need such a row group at the same time, at the beginning or
  at the end of the epoch; a rank that has both lanes fetches it once. All ranks together fetch each row group once,
  plus one for each place where one rank's lanes end and another's begin, on each side. (In a short last batch, lanes
  change ranks: up to one more row group for each lane in it.)
- The number of workers plays no part, and the position of a lane at any step is found without the steps before it. A
  rank that begins in the middle of an epoch fetches what the buffers of that moment hold, and nothing earlier.

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
    """Parameters that decide the order of a streamed run."""

    order: Order
    edges_a: np.ndarray
    """Cumulative rows, int64 [row groups + 1]: the rows of A before each row group, and their total."""
    edges_b: np.ndarray
    """Cumulative rows of B, likewise."""
    buffer: int
    """Number of rows of each shuffle buffer."""

    def edges(self, side: Side) -> np.ndarray:
        """Return the cumulative rows of one side."""
        return self.edges_a if side == "a" else self.edges_b

    @property
    def window(self) -> int:
        """Number of images that are shuffled with each other, in addition to the shuffle of the row groups."""
        return min(self.order.global_batch * self.buffer, self.order.samples_per_epoch)


def global_batch(lanes: Lanes, step: int) -> Samples:
    """Return the samples of the global batch of `step`, by lane; the last batch of an epoch may be short.

    `number` is the number of the image on the larger side, so each number comes once in an epoch.
    """
    order = lanes.order
    epoch, index = divmod(step, order.steps_per_epoch)
    count = order.samples_in(step)
    a = _rows(lanes, "a", epoch, index, count)
    b = a if order.paired else _rows(lanes, "b", epoch, index, count)
    return Samples(epoch, a if order.images_a >= order.images_b else b, a, b)


def row_groups(lanes: Lanes, side: Side, rows: np.ndarray) -> np.ndarray:
    """Return the row group of each row of one side, int64."""
    return np.searchsorted(lanes.edges(side), rows, "right") - 1


def buffered_until(lanes: Lanes, step: int) -> int:
    """Return the step before which all lanes read from the buffers in use at `step` or from the next ones."""
    per_epoch, size = lanes.order.steps_per_epoch, lanes.buffer
    for _ in range(2):
        epoch, index = divmod(step, per_epoch)
        step = epoch * per_epoch + min((index // size + 1) * size, per_epoch)
    return step


class _Draw(IntEnum):
    """Purposes of random numbers, in addition to those of `order`; each purpose of B is one larger."""

    GROUPS = 16
    BUFFER = 18


def _rows(lanes: Lanes, side: Side, epoch: int, index: int, count: int) -> np.ndarray:
    """Return the rows that the first `count` lanes read in the batch `index` of an epoch, int64 [count]."""
    block, position = divmod(index, lanes.buffer)
    lane = np.arange(count)
    starts, lengths = _pieces(lanes.order)
    within = _shuffled_rows(lanes, side, epoch, block)[:count, position]
    offsets = np.where(lane % 2, within, lengths[:count] - 1 - within)
    groups, edges = _group_line(lanes, side, epoch)
    positions = starts[:count] + offsets
    found = np.searchsorted(edges, positions, "right") - 1
    return lanes.edges(side)[groups[found]] + positions - edges[found]


def _pieces(order: Order) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and lengths of the lanes' pieces of the line, int64 [n] each."""
    each, remainder = divmod(order.samples_per_epoch, order.global_batch)
    lane = np.arange(order.global_batch)
    return lane * each + np.minimum(lane, remainder), each + (lane < remainder)


@functools.lru_cache(maxsize=8)
def _shuffled_rows(lanes: Lanes, side: Side, epoch: int, block: int) -> np.ndarray:
    """Return the order in which each lane hands out the rows of this buffer, int64 [n, rows of a buffer].

    Rows that a lane does not have are at the end.
    """
    _, lengths = _pieces(lanes.order)
    first = block * lanes.buffer
    rows = np.arange(first, min(first + lanes.buffer, int(lengths[0])))
    drawn = counter_hash(
        lanes.order.seed, _Draw.BUFFER + (side == "b"), epoch, (np.arange(len(lengths))[:, None] << 40) + rows
    )
    drawn[rows >= lengths[:, None]] = np.iinfo(np.uint64).max
    return first + np.argsort(drawn, axis=1, kind="stable")


@functools.lru_cache(maxsize=4)  # two sides, and two epochs at the change from one to the next
def _group_line(lanes: Lanes, side: Side, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the row groups in the order in which they are laid end to end, and the positions at which they begin."""
    edges = lanes.edges(side)
    rows = np.diff(edges)
    passes = np.arange(-(-lanes.order.samples_per_epoch // int(edges[-1])))
    drawn = counter_hash(
        lanes.order.seed, _Draw.GROUPS + (side == "b"), epoch, (passes[:, None] << 40) + np.arange(len(rows))
    )
    groups = np.argsort(drawn, axis=1, kind="stable").ravel()
    return groups, np.concatenate([[0], np.cumsum(rows[groups])])
