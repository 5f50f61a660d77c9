"""Ranges of rows: the pieces into which a store is cut, planned and read.

A *range* is a run of rows of one source shard; a file in a folder is a shard of one row. The ranges of a store are kept
in columns, since there may be tens of millions of them.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, overload

import numpy as np

from pipeline.storage.entries import BATCH, Entries, Entry
from pipeline.stores.tables.row_schema import RowSchema

_BLOCK = 100_000
MOST_BYTES = 64_000_000
"""Encoded bytes of a row group beyond which its rows are read and planned in pieces."""


class Range(NamedTuple):
    """Rows [start, stop) of one source shard."""

    shard: str
    """Name of the shard, relative to its store."""
    url: str
    version: str
    """Etag of the shard, or its size and mtime, at the time of planning."""
    start: int
    stop: int
    size: int
    """Encoded bytes of these rows (an estimate where a shard has to be cut inside a row group)."""
    source: str = ""
    """Name of the shard's store, where a job reads several: shards of two stores may share a name."""
    row_schema: RowSchema | None = None
    """How its rows come, the same for all ranges of a store; None where they come as the shard has them."""

    @property
    def rows(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, eq=False)
class Ranges(Sequence[Range]):
    """Ranges of the shards of one store, in order; a `Range` is made when it is looked at."""

    shards: Entries
    """Shards of the store, with or without a range here."""
    shard: np.ndarray
    """Number of each range's shard, integers in ascending order. This and the next three have a value a range."""
    start: np.ndarray
    stop: np.ndarray
    size: np.ndarray
    """Encoded bytes of each range."""
    source: str = ""
    row_schema: RowSchema | None = None

    @classmethod
    def of(cls, ranges: Iterable[Range]) -> Ranges:
        """Return ranges of one store, in order, as columns."""
        ranges = list(ranges)
        shards = {piece.shard: Entry(piece.shard, piece.url, 0, piece.version) for piece in ranges}
        entries = Entries.of(list(shards.values()))
        number = {entry.name: i for i, entry in enumerate(entries)}
        rows = np.array([(number[r.shard], r.start, r.stop, r.size) for r in ranges], np.int64).reshape(-1, 4)
        shard, start, stop, size = rows.T
        first = ranges[0] if ranges else None
        return cls(
            entries, shard, start, stop, size, first.source if first else "", first.row_schema if first else None
        )

    def __len__(self) -> int:
        return len(self.shard)

    @overload
    def __getitem__(self, index: int) -> Range: ...
    @overload
    def __getitem__(self, index: slice) -> Ranges: ...
    def __getitem__(self, index: int | slice) -> Range | Ranges:
        if isinstance(index, slice):
            return self._at(index)
        shard = self.shards[int(self.shard[index])]
        start, stop, size = (int(column[index]) for column in (self.start, self.stop, self.size))
        return Range(shard.name, shard.url, shard.version, start, stop, size, self.source, self.row_schema)

    def __iter__(self) -> Iterator[Range]:
        for first in range(0, len(self), BATCH):
            part = self[first : first + BATCH]
            numbers, where = np.unique(part.shard, return_inverse=True)
            shards = list(self.shards.take(numbers))
            for at, start, stop, size in zip(
                where.tolist(), part.start.tolist(), part.stop.tolist(), part.size.tolist(), strict=True
            ):
                name, url, _, version = shards[at]
                yield Range(name, url, version, start, stop, size, self.source, self.row_schema)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ranges):
            return NotImplemented
        if self.shards is other.shards:
            columns = ("shard", "start", "stop", "size")
            same = all(np.array_equal(getattr(self, name), getattr(other, name)) for name in columns)
            return (self.source, self.row_schema) == (other.source, other.row_schema) and same
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def _at(self, which: slice | np.ndarray) -> Ranges:
        return replace(
            self, shard=self.shard[which], start=self.start[which], stop=self.stop[which], size=self.size[which]
        )

    @property
    def each_rows(self) -> np.ndarray:
        """Return the number of rows of each range, integers."""
        return self.stop - self.start

    @property
    def rows(self) -> int:
        """Return the number of rows of all ranges."""
        return int(self.stop.sum(dtype=np.int64) - self.start.sum(dtype=np.int64))

    @property
    def shards_with_rows(self) -> np.ndarray:
        """Return the numbers of the shards that have a range here, which ascend."""
        return self.shard[self._begins_shard()]

    def first_rows(self, count: int) -> Ranges:
        """Return the ranges of the first `count` rows, or of all rows where there are fewer."""
        part = self[: int(np.searchsorted(np.cumsum(self.each_rows), count)) + 1 if count > 0 else 0]
        stop = np.array(part.stop)
        stop[-1:] -= max(part.rows - count, 0)
        return replace(part, stop=stop)

    def of_shards(self, which: np.ndarray) -> Ranges:
        """Return the ranges of the shards with these numbers, which ascend."""
        if len(which) == 0 or len(which) == len(self.shards):
            return self._at(slice(0, 0 if len(which) == 0 else None))
        ends = which[[0, -1]].astype(self.shard.dtype)  # else the column would be converted
        near = self[np.searchsorted(self.shard, ends[0]) : np.searchsorted(self.shard, ends[1], "right")]
        wanted = np.zeros(int(which[-1] - which[0]) + 1, bool)
        wanted[which - which[0]] = True
        return near if wanted.all() else near._at(wanted[near.shard - which[0]])

    def sizes_of(self, which: np.ndarray) -> np.ndarray:
        """Return the encoded bytes of all ranges here of each of these shards, int64."""
        totals = np.zeros(len(self.shards), np.int64)
        np.add.at(totals, self.shard, self.size)
        return totals[which]

    def is_cut(self, max_rows: int, max_bytes: int) -> bool:
        """Return True where nothing would change when the ranges are cut to fit and those that touch are joined."""
        if len(self) == 0 or not self._begins_shard().all():
            return len(self) == 0
        rows = self.each_rows
        return bool(rows.min() > 0 and rows.max() <= max_rows and self.size.max() <= max_bytes)

    def _begins_shard(self) -> np.ndarray:
        """Return, for each range, whether it is the first one of its shard, bool."""
        begins = np.ones(len(self), bool)
        np.not_equal(self.shard[1:], self.shard[:-1], out=begins[1:])
        return begins

    def cut(self, max_rows: int, max_bytes: int) -> Ranges:
        """Return the ranges that have rows, each in even pieces that fit, as `cut_range` cuts one."""
        rows = self.each_rows
        if len(self) == 0 or (rows.min() > 0 and rows.max() <= max_rows and self.size.max() <= max_bytes):
            return self
        rows, size = rows.astype(np.int64), self.size.astype(np.int64)
        pieces = np.maximum(-(-rows // max_rows), np.minimum(-(-size // max_bytes), rows))
        if pieces.max() <= 1:
            return self._at(rows > 0)
        origin = np.repeat(np.arange(len(self)), pieces)
        piece = np.arange(len(origin)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        whole, count = rows[origin], pieces[origin]
        edges = [_share(whole, at, count) for at in (piece, piece + 1)]
        before, until = (_share(size[origin], edge, whole) for edge in edges)
        first = self.start[origin]
        return replace(
            self, shard=self.shard[origin], start=first + edges[0], stop=first + edges[1], size=until - before
        )

    def followed_by(self, others: Sequence[Ranges]) -> Ranges:
        """Return these ranges and, after them, others of the same store."""
        if not others:
            return self
        parts = (self, *others)
        return replace(
            self,
            shard=np.concatenate([part.shard for part in parts]),
            start=np.concatenate([part.start for part in parts]),
            stop=np.concatenate([part.stop for part in parts]),
            size=np.concatenate([part.size for part in parts]),
        )

    def joined(self, apart: np.ndarray) -> tuple[Ranges, np.ndarray]:
        """Return the ranges with those merged that continue each other in one shard, and where each new one begins.

        None is merged across a position in `apart`. So each run of a shard is read once.
        """
        if len(self) == 0:
            return self, np.zeros(0, np.int64)
        begins = self._begins_shard()
        begins[1:] |= self.start[1:] != self.stop[:-1]
        begins[apart[apart < len(self)]] = True
        at = np.flatnonzero(begins)
        last = np.append(at[1:], len(self)) - 1
        size = np.add.reduceat(self.size, at, dtype=np.int64)
        return replace(self, shard=self.shard[at], start=self.start[at], stop=self.stop[last], size=size), at


def _share(whole: np.ndarray, part: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return whole * part // of, exactly."""
    if len(whole) and int(whole.max()) * int(part.max()) > np.iinfo(np.int64).max:
        return (whole.astype(object) * part // of).astype(np.int64)
    return whole * part // of


class Pieces:
    """Ranges while shards are opened one after the other."""

    def __init__(self) -> None:
        self._open = tuple(array("q") for _ in range(4))
        self._packed = [array("i") for _ in range(4)]  # an array that grows is moved, and leaves no holes in memory

    def add(self, shard: int, rows: Sequence[int], sizes: Sequence[int]) -> None:
        """Add a shard by its number, with rows and encoded bytes of each of its row groups."""
        edges = list(itertools.accumulate(rows, initial=0))
        for column, values in zip(self._open, ([shard] * len(rows), edges[:-1], edges[1:], sizes), strict=True):
            column.extend(values)
        if len(self._open[0]) >= _BLOCK:
            self._pack()

    def _pack(self) -> None:
        """Pack what is open: the row groups that have rows, those of more than MOST_BYTES in even pieces."""
        shard, start, stop, size = (np.array(column, np.int64) for column in self._open)
        groups = Ranges(Entries.of([]), shard, start, stop, size).cut(np.iinfo(np.int64).max, MOST_BYTES)
        for i, column in enumerate((groups.shard, groups.start, groups.stop, groups.size)):
            if len(column) and column.max() > np.iinfo(np.int32).max and self._packed[i].typecode == "i":
                self._packed[i] = array("q", self._packed[i])
            self._packed[i].frombytes(column.astype(self._packed[i].typecode).tobytes())
        self._open = tuple(array("q") for _ in range(4))

    def ranges(self, shards: Entries, row_schema: RowSchema | None = None) -> Ranges:
        """Return what was added, once; its columns have 32 bits where that is enough."""
        self._pack()
        shard, start, stop, size = (np.frombuffer(column, column.typecode) for column in self._packed)
        return Ranges(shards, shard, start, stop, size, row_schema=row_schema)


def whole_shards(shards: Entries) -> Ranges:
    """Return a range of one row for each shard, of the shard's size."""
    zero, one = (np.broadcast_to(np.int64(value), len(shards)) for value in (0, 1))
    return Ranges(shards, np.arange(len(shards), dtype=np.int32), zero, one, shards.sizes)


def cut_range(whole: Range, max_rows: int, max_bytes: int) -> Iterator[Range]:
    """Yield `whole` in even pieces that each fit, or row by row where even a single row is too large."""
    if whole.rows == 0:
        return
    pieces = max(-(-whole.rows // max_rows), min(-(-whole.size // max_bytes), whole.rows))
    edges = [whole.start + whole.rows * i // pieces for i in range(pieces + 1)]
    for start, stop in itertools.pairwise(edges):
        if stop > start:
            size = whole.size * (stop - whole.start) // whole.rows - whole.size * (start - whole.start) // whole.rows
            yield whole._replace(start=start, stop=stop, size=size)


def row_keys(of: Range) -> list[str]:
    """Return keys for rows without one of their own: their shard and their number in it."""
    return [f"{of.shard}#{row:09d}" for row in range(of.start, of.stop)]


def append_range(held: list[Range], part: Range) -> None:
    """Add `part` at the end of `held`; extend the last range instead where `part` continues it in the same shard.

    So each run of a shard is read once.
    """
    last = held[-1] if held else None
    if last and last.url == part.url and last.stop == part.start:
        held[-1] = last._replace(stop=part.stop, size=last.size + part.size)
    else:
        held.append(part)


def joined(ranges: Iterable[Range]) -> Iterator[Range]:
    """Yield `ranges` with consecutive ones of the same shard merged."""
    held = list[Range]()
    for piece in ranges:
        append_range(held, piece)
        if len(held) > 1:
            yield held.pop(0)
    yield from held


def first_rows(ranges: Iterable[Range], count: int) -> list[Range]:
    """Return the ranges of the first `count` rows, or of all rows where there are fewer; take no more of `ranges`."""
    first: list[Range] = []
    for piece in ranges if count > 0 else ():
        first.append(piece._replace(stop=min(piece.stop, piece.start + count)))
        count -= first[-1].rows
        if count <= 0:
            break
    return first
