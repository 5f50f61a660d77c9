"""Rows of a Parquet shard, read in the way that fetches least: whole row groups, or the pages that the rows need."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.stores.forms.groups.excerpt import planned, read_excerpt
from pipeline.stores.forms.groups.layout import Chunk, Layout, chunk_of, described, layout_of
from pipeline.stores.forms.groups.pages import Pages, find_pages
from pipeline.stores.forms.groups.recent import Recent

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


def read(shard: Shard, start: int, stop: int, columns: Sequence[str] | None) -> pa.Table:
    """Return rows `start` to `stop` of a shard, with the named columns or all.

    Of a large row group only the pages that hold the rows are read, as far as the shard has small pages. Memory is in
    proportion to the rows, and to the largest page. A result of gigabytes comes in several chunks. Raises BadBody or
    what pyarrow raises where the shard is damaged.
    """
    tables = []
    for is_excerpt, run in itertools.groupby(_parts(shard.footer, start, stop), functools.partial(_is_cut, shard)):
        if is_excerpt:
            tables += [_read_part(shard, part, columns) for part in run]
        else:
            tables.append(_read_groups(shard, list(run), columns))
    return pa.concat_tables(tables) if tables else _open(shard).read_row_groups([], columns=columns)


def _parts(footer: pq.FileMetaData, start: int, stop: int) -> Iterator[_Part]:
    """Yield what rows `start` to `stop` are of each row group."""
    first = 0
    for group in range(footer.num_row_groups):
        rows = footer.row_group(group).num_rows
        part = _Part(group, max(0, start - first), min(rows, stop - first))
        if part.start < part.stop:
            yield part
        first += rows


def _is_cut(shard: Shard, part: _Part) -> bool:
    """Return True where a row group is so much larger than what is wanted of it that it is not to be read whole."""
    group = shard.footer.row_group(part.group)
    size = sum(group.column(i).total_compressed_size for i in range(group.num_columns))
    return bool(size > 1.25 * size * (part.stop - part.start) / group.num_rows + _SLACK_BYTES)


def _read_groups(shard: Shard, run: Sequence[_Part], columns: Sequence[str] | None) -> pa.Table:
    """Return rows of adjacent row groups that are fetched whole."""
    groups = [part.group for part in run]
    start, rows = run[0].start, sum(part.stop - part.start for part in run)
    if sum(shard.footer.row_group(group).total_byte_size for group in groups) <= 4 * _PIECE_BYTES:
        return _open(shard).read_row_groups(groups, columns=columns).slice(start, rows)
    return _stream(shard, groups, start, start + rows, columns)


def _read_part(shard: Shard, part: _Part, columns: Sequence[str] | None) -> pa.Table:
    """Return rows of one row group, by the pages that hold them or, where its pages are too large, as a stream."""
    layout = _layouts.get((shard.url, shard.version), lambda: layout_of(shard.footer))
    group = shard.footer.row_group(part.group)
    leaves = [i for i, leaf in enumerate(layout.leaves) if columns is None or leaf.is_of(columns)]
    whole = sum(chunk_of(described(layout, part.group)[i]).size for i in leaves)

    def pages(leaf: int, chunk: Chunk) -> Pages:
        return _pages.get((shard.url, shard.version, part.group, leaf), lambda: find_pages(shard.file, chunk))

    rows = max(1, _PIECE_BYTES * group.num_rows // max(1, group.total_byte_size))
    tables = []
    for start in range(part.start, part.stop, rows):
        stop = min(start + rows, part.stop)
        plan = planned(layout, part.group, start, stop, leaves, pages)
        if plan.size > 2 * whole * (stop - start) / group.num_rows + _SLACK_BYTES:
            _tell(shard.url, layout.leaves[max(plan.pieces, key=lambda leaf: plan.pieces[leaf].size)].path)
            return _stream(shard, [part.group], part.start, part.stop, columns)
        excerpt = pq.ParquetFile(
            pa.BufferReader(read_excerpt(shard.file, layout, plan)), page_checksum_verification=True
        )
        tables.append(_sliced(excerpt, [0], start, stop, columns, max(stop - start, _FEWEST_ROWS)))
    return pa.concat_tables(tables)


@functools.lru_cache(maxsize=4096)
def _tell(url: str, leaf: str) -> None:
    """Say, once for a shard, that each range is read from the start of its row group."""
    log.info(
        "%s: each range of rows is read from the start of its row group, since column %s is in pages of many rows or "
        "in lists; with pages of about 1 MB, or smaller row groups, a shard is read once",
        url,
        leaf,
    )


def _stream(shard: Shard, groups: Sequence[int], start: int, stop: int, columns: Sequence[str] | None) -> pa.Table:
    """Return rows counted from the first one of these row groups, which are read from there in bounded memory."""
    found = [shard.footer.row_group(group) for group in groups]
    size = max(1, sum(group.total_byte_size for group in found) // sum(group.num_rows for group in found))
    rows = max(1, min(max(stop - start, _FEWEST_ROWS), _PIECE_BYTES // size))
    return _sliced(_open(shard, pre_buffer=False, buffer_size=_BUFFER_BYTES), groups, start, stop, columns, rows)


def _sliced(
    parquet: pq.ParquetFile, groups: Sequence[int], start: int, stop: int, columns: Sequence[str] | None, rows: int
) -> pa.Table:
    """Return rows `start` to `stop` of these row groups, decoded `rows` at a time."""
    kept, at = list[pa.RecordBatch](), 0
    for batch in parquet.iter_batches(rows, row_groups=groups, columns=columns):
        kept.append(batch.slice(max(0, start - at), max(0, min(stop - at, len(batch)) - max(0, start - at))))
        at += len(batch)
        if at >= stop:
            break
    return pa.Table.from_batches([batch for batch in kept if len(batch)] or kept[-1:])


def _open(shard: Shard, **options: object) -> pq.ParquetFile:
    return pq.ParquetFile(
        shard.file, metadata=shard.footer, page_checksum_verification=True, **{"pre_buffer": True, **options}
    )
