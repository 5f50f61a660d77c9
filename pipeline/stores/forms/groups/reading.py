"""Rows of a Parquet shard, read in the way that fetches least.

Small row groups, and those that are mostly wanted, are fetched whole. Of others the pages that hold the rows are read,
where these hold few other rows. Some writers put a thousand images into a page, or all of a row group: such a group is
decoded once on a machine, into a temporary file, since each of its ranges would need all of it.
"""

from __future__ import annotations

import functools
import itertools
import logging
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.retry import BadBody
from pipeline.stores.forms.groups import spool
from pipeline.stores.forms.groups.excerpt import Plan, planned, read_excerpt
from pipeline.stores.forms.groups.layout import Chunk, Layout, chunk_of, described, layout_of
from pipeline.stores.forms.groups.pages import Pages, find_pages
from pipeline.stores.forms.groups.recent import Recent
from pipeline.stores.forms.groups.shared import shared

log = logging.getLogger("transdomain")

_SLACK_BYTES = 4_000_000
"""Bytes that may be read in vain: a row group of this size is not worth a search for pages."""
_PIECE_BYTES = 256_000_000
"""Bytes, before compression, to make one array of: pyarrow fails where a nested column comes to 2 GB."""
_FEWEST_ROWS = 256
"""Rows to decode at a time, where most of them are dropped."""
_BUFFER_BYTES = 8_000_000
"""Bytes to fetch at a time where a row group is read as a stream."""

_layouts = Recent[Layout](2_000_000, lambda layout: layout.size)
_pages = Recent[Pages](64_000_000, lambda pages: 256 * len(pages.data))
_spools = Recent[spool.Spool | None](2_000_000_000, lambda held: held.size if held else 0)


class Shard(NamedTuple):
    """Parquet shard that is open for reading."""

    file: IO[bytes]
    url: str
    version: str
    footer: pq.FileMetaData


class _Part(NamedTuple):
    """Rows [start, stop) of a row group, counted from its first one."""

    group: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


def read(shard: Shard, start: int, stop: int, columns: Sequence[str] | None) -> pa.Table:
    """Return rows `start` to `stop` of a shard, with the named columns or all.

    Memory is in proportion to these rows and to the largest page. A result of gigabytes comes in several chunks. Raises
    BadBody or what pyarrow raises where the shard is damaged, and StorageError where a temporary file finds no room.
    """
    tables = []
    parts = _parts(shard.footer, start, stop)
    for is_large, run in itertools.groupby(parts, functools.partial(_is_far_larger, shard.footer)):
        adjacent = list(run)
        if is_large:
            tables += [_read_part(shard, part, columns) for part in adjacent]
        else:
            tables.append(_read_whole(shard, adjacent, columns))
    return pa.concat_tables(tables) if tables else _open(shard, whole=True).read_row_groups([], columns)


def _parts(footer: pq.FileMetaData, start: int, stop: int) -> Iterator[_Part]:
    """Yield what rows `start` to `stop` are of each row group."""
    first = 0
    for group in range(footer.num_row_groups):
        rows = footer.row_group(group).num_rows
        part = _Part(group, max(0, start - first), min(rows, stop - first))
        if part.rows > 0:
            yield part
        first += rows


def _is_far_larger(footer: pq.FileMetaData, part: _Part) -> bool:
    """Return True where a row group is so much larger than what is wanted of it that it is not to be fetched whole."""
    group = footer.row_group(part.group)
    size = sum(group.column(i).total_compressed_size for i in range(group.num_columns))
    return bool(size > 1.25 * size * part.rows / group.num_rows + _SLACK_BYTES)


def _read_whole(shard: Shard, parts: Sequence[_Part], columns: Sequence[str] | None) -> pa.Table:
    """Return rows of adjacent row groups that are fetched whole, at once unless they are of gigabytes."""
    groups = [part.group for part in parts]
    size = sum(shard.footer.row_group(group).total_byte_size for group in groups)
    start, stop = parts[0].start, parts[0].start + sum(part.rows for part in parts)
    return _rows(_open(shard, whole=size <= 4 * _PIECE_BYTES), groups, start, stop, columns)


def _read_part(shard: Shard, part: _Part, columns: Sequence[str] | None) -> pa.Table:
    """Return rows of a row group that is far larger."""
    layout = _layouts.get((shard.url, shard.version), lambda: layout_of(shard.footer))
    leaves = [i for i, leaf in enumerate(layout.leaves) if columns is None or leaf.is_of(columns)]
    group = shard.footer.row_group(part.group)
    whole = sum(chunk_of(described(layout, part.group)[i]).size for i in leaves)

    def pages(leaf: int, chunk: Chunk) -> Pages:
        return _pages.get((shard.url, shard.version, part.group, leaf), lambda: find_pages(shard.file, chunk))

    def is_cheap(size: float) -> bool:
        return size <= 2 * whole * part.rows / group.num_rows + _SLACK_BYTES

    cuts = itertools.pairwise([*range(part.start, part.stop, _fitting([group], _PIECE_BYTES)), part.stop])
    plans = [planned(layout, part.group, start, stop, leaves, pages) for start, stop in cuts]
    if is_cheap(sum(plan.size for plan in plans)):
        return pa.concat_tables([_rows_of_excerpt(shard, layout, plan, columns) for plan in plans])
    largest = max(plans[0].pieces.items(), key=lambda item: item[1].size)[0]
    return _read_again(shard, part, columns, layout.leaves[largest].path)


def _rows_of_excerpt(shard: Shard, layout: Layout, plan: Plan, columns: Sequence[str] | None) -> pa.Table:
    excerpt = pa.BufferReader(read_excerpt(shard.file, layout, plan))
    return _rows(pq.ParquetFile(excerpt, page_checksum_verification=True), [0], plan.start, plan.stop, columns)


def _read_again(shard: Shard, part: _Part, columns: Sequence[str] | None, because: str) -> pa.Table:
    """Return rows of a row group of which any range takes as much reading as the whole, and keep it for the others."""

    group = shard.footer.row_group(part.group)
    has_room = spool.has_room(group.total_byte_size)

    def decode() -> spool.Spool:
        at_once = min(_FEWEST_ROWS, _fitting([group], _BUFFER_BYTES))
        return spool.spooled(_batches(_open(shard, whole=False), [part.group], columns, at_once))

    def share() -> spool.Spool | None:
        log.info(
            "%s: row group %d has to be read whole, since column %s is in pages of many rows, or has lists; %s %s. "
            "Pages of about 1 MB, or small row groups, are read by themselves",
            shard.url,
            part.group,
            because,
            "it is kept in a temporary file in" if has_room else "this is done for each range, for want of room in",
            tempfile.gettempdir(),
        )
        return shared(key, decode) if has_room else None

    key = shard.url, shard.version, part.group, None if columns is None else tuple(columns)
    held = _spools.get(key, share)
    if held is None:
        return _rows(_open(shard, whole=False), [part.group], part.start, part.stop, columns)
    return held.rows(part.start, part.stop)


def _open(shard: Shard, *, whole: bool) -> pq.ParquetFile:
    """Open a shard to fetch row groups whole, or as streams."""
    options = {"pre_buffer": True} if whole else {"pre_buffer": False, "buffer_size": _BUFFER_BYTES}
    return pq.ParquetFile(shard.file, metadata=shard.footer, page_checksum_verification=True, **options)


def _rows(
    parquet: pq.ParquetFile, groups: Sequence[int], start: int, stop: int, columns: Sequence[str] | None
) -> pa.Table:
    """Return rows `start` to `stop`, counted from the first one of these row groups, decoded in batches that fit."""
    fitting = _fitting([parquet.metadata.row_group(group) for group in groups], _PIECE_BYTES)
    at_once = min(max(stop - start, _FEWEST_ROWS), fitting)
    try:
        return _sliced(_batches(parquet, groups, columns, at_once), start, stop)
    except pa.ArrowNotImplementedError:
        # Values that a dictionary has once may come to 2 GB where they are repeated.
        return _sliced(_batches(parquet, groups, columns, _FEWEST_ROWS), start, stop)


def _batches(
    parquet: pq.ParquetFile, groups: Sequence[int], columns: Sequence[str] | None, at_once: int
) -> Iterator[pa.RecordBatch]:
    """Yield all rows of these row groups. Raises BadBody where these are not as many as the footer says.

    pyarrow passes over a page whose header is damaged in its type, and only the end tells that rows are missing.
    """
    rows = sum(parquet.metadata.row_group(group).num_rows for group in groups)
    for batch in parquet.iter_batches(at_once, groups, columns):
        rows -= len(batch)
        yield batch
    if rows:
        raise BadBody(f"row groups lack {rows} of their rows")


def _sliced(batches: Iterator[pa.RecordBatch], start: int, stop: int) -> pa.Table:
    """Return rows `start` to `stop` of those that batches hold."""
    kept, first = list[pa.RecordBatch](), 0
    for batch in batches:
        begin, end = max(start - first, 0), min(stop - first, len(batch))
        if begin < end:
            kept.append(batch.slice(begin, end - begin))
        first += len(batch)
    return pa.Table.from_batches(kept)


def _fitting(groups: Sequence[pq.RowGroupMetaData], size: int) -> int:
    """Return how many rows of these row groups are about `size` bytes before compression, but at least one."""
    total = sum(group.total_byte_size for group in groups)
    return max(1, size * sum(group.num_rows for group in groups) // max(1, total))
