"""A set that is read anew in each epoch: the row groups that this rank's lanes come to are fetched ahead, the images
that a step takes from them decoded.

What is held is encoded: two shuffle buffers a lane and side, as one is emptied while the next is filled, and the rest
of the row groups that they are from.
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

_FETCHERS = 8
_DECODED_AHEAD = 32
"""Images, over both sides; a step's at least."""


class Pictures(NamedTuple):
    """What a rank needs for a step."""

    whole: Samples
    """Of the global batch."""
    mine: Samples
    """Of this rank, [n]."""
    a: list[np.ndarray]
    """n images of A, uint8 [S, S, 3] each."""
    b: list[np.ndarray]


class _Wanted(NamedTuple):
    """An image of a step: where it is."""

    side: Side
    group: int
    row: int
    """In its row group."""


class _Planned(NamedTuple):
    """A step: the global batch, this rank's part of it, and its images, those of A and then those of B."""

    whole: Samples
    mine: Samples
    images: list[_Wanted]


_Key = tuple[Side, int]
"""A row group of one side; where they are paired, of A for both."""


@dataclass
class _Fetched:
    """A row group, and how many images of known steps are still to be taken from it."""

    rows: Future[pa.Table]
    wanted: int = 0


class Stream:
    """The images of a rank, step by step."""

    def __init__(self, context: Context, reads: ReadMonitor) -> None:
        sources, config = context.sources, context.config
        edges = [np.cumsum([0, *(r.rows for r in side.ranges)]) for side in (sources.a, sources.b)]
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

    def pictures(self, start: int, stop: int) -> Generator[Pictures]:
        """Those of each step from `start` to before `stop`. Raises what reading raises, and TrainingDataError."""
        held: dict[_Key, _Fetched] = {}
        planned: deque[_Planned] = deque()
        decoding: deque[tuple[_Planned, list[Future[np.ndarray]]]] = deque()
        known = start
        with DaemonPool(_FETCHERS) as fetchers, DaemonPool(self._threads) as decoders:
            for step in range(start, stop):
                until = min(laning.buffered_until(self.lanes, step), stop)
                for further in range(known, until):
                    planned.append(self._plan(further))
                    for key in map(self._key, planned[-1].images):
                        if key not in held:
                            held[key] = _Fetched(fetchers.submit(self._fetch, *key))
                        held[key].wanted += 1
                known = until
                while planned and sum(len(futures) for _, futures in decoding) < _DECODED_AHEAD:
                    plan = planned.popleft()
                    rows = [held[self._key(image)].rows for image in plan.images]
                    decoding.append((plan, list(map(decoders.submit, repeat(self._decode), rows, plan.images))))
                plan, futures = decoding.popleft()
                pixels = [future.result() for future in futures]
                for key in map(self._key, plan.images):
                    held[key].wanted -= 1
                    if not held[key].wanted:
                        del held[key]
                yield Pictures(plan.whole, plan.mine, pixels[: len(plan.mine)], pixels[len(plan.mine) :])

    def _plan(self, step: int) -> _Planned:
        whole = laning.global_batch(self.lanes, step)
        mine = whole.part(ordering.share(len(whole), self._group.rank, self._group.workers))
        return _Planned(whole, mine, [*self._wanted("a", mine.a), *self._wanted("b", mine.b)])

    def _wanted(self, side: Side, rows: np.ndarray) -> Iterator[_Wanted]:
        groups = laning.row_groups(self.lanes, side, rows)
        for group, row in zip(groups.tolist(), (rows - self.lanes.edges(side)[groups]).tolist(), strict=True):
            yield _Wanted(side, group, row)

    def _key(self, image: _Wanted) -> _Key:
        """Both images of a pair are fetched together."""
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

    def _decode(self, rows: Future[pa.Table], image: _Wanted) -> np.ndarray:
        row = rows.result().slice(image.row, 1).to_pylist()[0]
        source = self._source(image.side)
        data = (row[source.column] or {}).get("bytes") or b""
        where = (source.ranges[image.group].url, source.column, row["key"])
        return decode_image(data, self._load_size, where)

    def _held_bytes(self) -> float:
        """About the most encoded bytes that this rank holds."""
        order, held = self.lanes.order, 0.0
        for side in [self._sources.a] if order.paired else [self._sources.a, self._sources.b]:
            size, groups = sum(r.size for r in side.ranges), len(side.ranges)
            lane = min(2 * self.lanes.buffer * size / side.images + 2 * size / groups, size)
            held += lane * -(-order.global_batch // self._group.workers)
        return held


def listing_fingerprint(sources: Sources) -> str:
    """Of the shards' names, their etags (size and mtime on a disk), and the rows and bytes of their row groups.

    No image is read for it, so the same images packed anew, or copied to another disk, have another one.
    """
    digest = hashlib.sha256()
    for side in (sources.a, sources.b):
        for r in side.ranges:
            digest.update(json.dumps([side.column, r.shard, r.version, r.start, r.stop, r.size]).encode())
    return digest.hexdigest()
