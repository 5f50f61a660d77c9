"""Streaming of a set, anew in each epoch: prefetches row groups of this rank's lanes, and decodes each step's images.

Images are held encoded: two shuffle buffers for each lane and side, as one is emptied while the next is filled, and the
rest of the row groups that they come from.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.errors import DamagedError
from pipeline.storage.retry import BadBody
from pipeline.stores import read_rows
from pipeline.stores.tables.ranges import Range
from pipeline.training.data import lanes as laning
from pipeline.training.data import order as ordering
from pipeline.training.data.context import Context
from pipeline.training.data.lanes import Lanes
from pipeline.training.data.loader import Source, Sources, TrainingDataError, decode_image
from pipeline.training.data.order import Samples, Side
from pipeline.training.data.reads import DaemonPool, ReadMonitor

_FETCH_THREADS = 8
_DECODE_AHEAD = 32
"""Number of images to decode ahead, over both sides; those of one step at least."""


class StepImages(NamedTuple):
    """Images that a rank needs for a step."""

    whole: Samples
    """Samples of the global batch."""
    mine: Samples
    """Samples of this rank, [n]."""
    a: list[np.ndarray]
    """List of n images of A, [S, S, channels] each."""
    b: list[np.ndarray]


class _ImageLocation(NamedTuple):
    """Location of an image of a step."""

    side: Side
    group: int
    row: int
    """Row within the row group."""


class _Plan(NamedTuple):
    """Plan of a step: the global batch, this rank's part of it, and its images, those of A before those of B."""

    whole: Samples
    mine: Samples
    images: list[_ImageLocation]


_Key = tuple[Side, int]
"""Key of a row group: its side and index. Where images are paired, the side is A for both."""


@dataclass
class _Fetched:
    """Row group that is held, with the number of images of planned steps that are still to be taken from it."""

    rows: Future[pa.Table]
    wanted: int = 0


class Stream:
    """Images of a rank, step by step."""

    def __init__(self, context: Context, reads: ReadMonitor) -> None:
        sources, config = context.sources, context.config
        edges = [np.concatenate([[0], np.cumsum(side.ranges.each_rows)]) for side in (sources.a, sources.b)]
        self.lanes = Lanes(order=context.order, edges_a=edges[0], edges_b=edges[1], buffer=config.shuffle_buffer)
        self.fingerprint: str = listing_fingerprint(sources)
        self._sources, self._group = sources, context.group
        self._load_size, self._threads, self._reads = config.load_size, context.threads, reads

    def __str__(self) -> str:
        order, buffer = self.lanes.order, self.lanes.buffer
        groups = len(self._sources.a.ranges), len(self._sources.b.ranges)
        return (
            f"streamed: {order.global_batch} lane(s) with a shuffle buffer of {buffer}, so {self.lanes.window} images "
            f"are shuffled among each other, out of shuffled row groups ({groups[0]} of A, {groups[1]} of B); "
            f"about {self._held_bytes() / 1e6:.0f} MB of encoded images in each worker"
        )

    def pictures(self, start: int, stop: int) -> Generator[StepImages]:
        """Yield the images of each step from `start` to before `stop`.

        Raises what reading raises, and TrainingDataError.
        """
        held: dict[_Key, _Fetched] = {}
        planned: deque[_Plan] = deque()
        decoding: deque[tuple[_Plan, list[Future[np.ndarray]]]] = deque()
        known = start
        with DaemonPool(_FETCH_THREADS) as fetchers, DaemonPool(self._threads) as decoders:
            for step in range(start, stop):
                until = min(laning.buffered_until(self.lanes, step), stop)
                for upcoming in range(known, until):
                    planned.append(self._plan(upcoming))
                    for key in map(self._key, planned[-1].images):
                        if key not in held:
                            held[key] = _Fetched(fetchers.submit(self._fetch, *key))
                        held[key].wanted += 1
                known = until
                while planned and sum(len(futures) for _, futures in decoding) < _DECODE_AHEAD:
                    plan = planned.popleft()
                    rows = [held[self._key(image)].rows for image in plan.images]
                    decoding.append((plan, list(map(decoders.submit, repeat(self._decode), rows, plan.images))))
                plan, futures = decoding.popleft()
                pixels = [future.result() for future in futures]
                for key in map(self._key, plan.images):
                    held[key].wanted -= 1
                    if not held[key].wanted:
                        del held[key]
                yield StepImages(plan.whole, plan.mine, pixels[: len(plan.mine)], pixels[len(plan.mine) :])

    def _plan(self, step: int) -> _Plan:
        whole = laning.global_batch(self.lanes, step)
        mine = whole.part(ordering.share(len(whole), self._group.rank, self._group.workers))
        return _Plan(whole, mine, [*self._locations("a", mine.a), *self._locations("b", mine.b)])

    def _locations(self, side: Side, rows: np.ndarray) -> Iterator[_ImageLocation]:
        groups = laning.row_groups(self.lanes, side, rows)
        for group, row in zip(groups.tolist(), (rows - self.lanes.edges(side)[groups]).tolist(), strict=True):
            yield _ImageLocation(side, group, row)

    def _key(self, image: _ImageLocation) -> _Key:
        """Return the row group that holds an image. Both images of a pair are fetched together."""
        return ("a" if self.lanes.order.paired else image.side), image.group

    def _source(self, side: Side) -> Source:
        return self._sources.a if side == "a" else self._sources.b

    def _fetch(self, side: Side, group: int) -> pa.Table:
        wanted: Range = self._source(side).ranges[group]
        sides: list[Side] = ["a", "b"] if self.lanes.order.paired else [side]
        with self._reads.reading(wanted.url):
            try:
                return read_rows([wanted], [self._source(each).column for each in sides]).combine_chunks()
            except (pa.ArrowException, DamagedError) as error:
                if isinstance(error.__cause__, BadBody):
                    raise
                raise TrainingDataError(
                    f"{wanted.url}: rows {wanted.start} to {wanted.stop} cannot be read ({error.__cause__ or error}); "
                    "restore the shard, or pack the images anew with jobs.pack"
                ) from error

    def _decode(self, rows: Future[pa.Table], image: _ImageLocation) -> np.ndarray:
        row = rows.result().slice(image.row, 1).to_pylist()[0]
        source = self._source(image.side)
        data = (row[source.column] or {}).get("bytes") or b""
        where = (source.ranges[image.group].url, source.column, row["key"])
        return decode_image(data, self._load_size, where, source.pixel_type, source.reading)

    def _held_bytes(self) -> float:
        """Return about the most encoded bytes that this rank holds."""
        order, held = self.lanes.order, 0.0
        for side in [self._sources.a] if order.paired else [self._sources.a, self._sources.b]:
            size, groups = int(side.ranges.size.sum()), len(side.ranges)
            lane = min(2 * self.lanes.buffer * size / side.images + 2 * size / groups, size)
            held += lane * -(-order.global_batch // self._group.workers)
        return held


def listing_fingerprint(sources: Sources) -> str:
    """Return a hash of the shards' names and etags (size and mtime on a disk), and of their row groups' rows and bytes.

    It reads no images, so the same images packed anew, or copied to another disk, get another fingerprint.
    """
    digest = hashlib.sha256()
    for side in (sources.a, sources.b):
        for r in side.ranges:
            digest.update(json.dumps([side.column, r.shard, r.version, r.start, r.stop, r.size]).encode())
    return digest.hexdigest()
