"""Ranges of rows: the pieces into which a store is cut, planned and read.

A *range* is a run of rows of one source shard; a file in a folder is a shard of one row.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple


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

    @property
    def rows(self) -> int:
        return self.stop - self.start


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
    """Return the ranges of the first `count` rows, or of all rows where there are fewer."""
    first: list[Range] = []
    for piece in ranges:
        if count <= 0:
            break
        first.append(piece._replace(stop=min(piece.stop, piece.start + count)))
        count -= first[-1].rows
    return first
