"""Parquet shards: planned from their footers, and read by row ranges."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.errors import DamagedError, UserError
from pipeline.storage.retry import BadBody, retrying
from pipeline.stores.forms import hive, naming
from pipeline.stores.forms.form import File
from pipeline.stores.forms.groups import reading
from pipeline.stores.forms.groups.reading import Shard
from pipeline.stores.forms.groups.recent import Recent
from pipeline.stores.forms.shard import ShardForm, encode_shard
from pipeline.stores.tables.features import differing_classes, features_of, united, with_features
from pipeline.stores.tables.ranges import Range, cut_range, joined
from pipeline.stores.tables.schema import (
    NO_KEY,
    SHARD,
    ShardsDifferError,
    Store,
    as_read,
    check_columns,
    features_as_read,
    require_unchanged,
    together,
    without_keyless,
)

log = logging.getLogger("transdomain")

_FOOTER_THREADS = 16
_KEYS = 65_536
"""Keys that one thread reads at a time."""
_PIECE_BYTES = 32_000_000
"""Encoded bytes to read at a time where only some rows are wanted."""

_footers = Recent[pq.FileMetaData](64_000_000, lambda footer: footer.serialized_size)
"""Cache, for this process, of the footers of shards that are read by ranges: enough for more than a thousand shards."""


class Parquet(ShardForm):
    """Parquet shards, in folders that may name columns."""

    name, title, one = "parquet", "Parquet shards", "Parquet shard"
    unlisted = "Parquet files whose name, or folder's name, begins with _"
    stands_alone = True

    def reads(self, name: str) -> bool:
        return naming.is_shard(name)

    def lists(self, name: str) -> bool:
        return naming.is_shard(name) and not naming.is_reserved(name)

    def open(self, url: str, entries: Sequence[storage.Entry], *, alike: bool = True) -> Store:
        return open_shards(url, entries, alike=alike)

    def read(
        self,
        ranges: Sequence[Range],
        columns: Sequence[str] | None,
        *,
        wants: Callable[[str], bool] | None = None,
        unchanged: bool = False,
    ) -> pa.Table:
        if wants is None:
            return together([read_range(r, columns) for r in ranges])
        pieces = [piece for r in ranges for piece in cut_range(r, r.rows, _PIECE_BYTES)]
        return together([_wanted(read_range(piece, columns), wants) for piece in pieces])

    def row_names(self, piece: Range) -> list[str]:
        return row_keys(piece)

    def keys(self, store: Store) -> Iterator[tuple[str, Sequence[str]]]:
        pieces = (piece for whole in joined(store.ranges) for piece in cut_range(whole, _KEYS, max(whole.size, 1)))
        if "key" not in store.schema.names:
            yield from ((piece.url, row_keys(piece)) for piece in pieces)
            return
        with ThreadPoolExecutor(_FOOTER_THREADS) as threads:
            reading: deque[tuple[str, Future[list[str]]]] = deque()
            for piece in pieces:
                reading.append((piece.url, threads.submit(_own_keys, piece)))
                if len(reading) > _FOOTER_THREADS:
                    url, keys = reading.popleft()
                    yield url, keys.result()
            for url, keys in reading:
                yield url, keys.result()

    def has_unique_keys(self, store: Store) -> bool:
        return "key" not in store.schema.names

    def encode(
        self, rows: pa.Table, notes: Mapping[str, str], column: str, extension: str
    ) -> tuple[bytes, Mapping[str, pa.Buffer]]:
        return encode_shard(rows, notes), {}

    def files(self, data: bytes) -> Sequence[File]:
        return ()


def _own_keys(piece: Range) -> list[str]:
    return without_keyless(read_range(piece, ["key"]))[0]["key"].to_pylist()


def _wanted(rows: pa.Table, wants: Callable[[str], bool]) -> pa.Table:
    return rows.filter(pa.array(map(wants, rows["key"].to_pylist()), pa.bool_()))


def open_shards(url: str, entries: Sequence[storage.Entry], *, alike: bool = True) -> Store:
    """Return the store of these shards, with a range for each row group.

    Its columns, including those in folder names, are the ones that all shards have with the same type. Reads every
    footer. Raises UserError where a shard is not a Parquet file, its keys have an impossible type, or, with `alike`,
    its columns or class names differ from those of the first shard.
    """
    with ThreadPoolExecutor(_FOOTER_THREADS) as threads:
        footers = list(threads.map(_footer, entries))
    schema = _schema(entries[0], footers[0])
    features, ranges, tally = features_of(schema), list[Range](), storage.Tally()
    for entry, footer in zip(entries, footers, strict=True):
        other = _schema(entry, footer)
        differing = differing_classes(features, features_of(other))
        if alike and (other != schema or differing):
            how = _difference(schema, other) if other != schema else "; ".join(map(": ".join, differing.items()))
            raise ShardsDifferError(f"{entry.url}: columns differ from {entries[0].url}: {how}")
        if other != schema or differing:
            schema = _in_common(schema, other, differing, entry.url)
        features = united(features, features_of(other))
        if not footer.num_rows:
            tally.add("shards without rows", entry.name)
        ranges += _ranges(entry, footer)
    _warn_of_contradictions(entries, footers)
    return Store(url, "parquet", with_features(schema, features), ranges, passed_over=storage.passed_over(tally))


def _schema(entry: storage.Entry, footer: pq.FileMetaData) -> pa.Schema:
    """Return the columns of one shard, as its rows come."""
    found = footer.schema.to_arrow_schema()
    check_columns(found, entry.url, rows=footer.num_rows)
    more = hive.fields(entry.name, found.names)
    check_columns(pa.schema(more), entry.url, rows=0)
    if any(field.name == "key" for field in more):
        raise UserError(f"{entry.url}: a folder cannot name the column key, which tells rows apart; rename the folder")
    return with_features(pa.schema([*map(as_read, found), *more]), features_as_read(found))


def _ranges(entry: storage.Entry, footer: pq.FileMetaData) -> Iterator[Range]:
    """Yield the row groups of a shard, except those without rows."""
    start = 0
    for i in range(footer.num_row_groups):
        group = footer.row_group(i)
        if group.num_rows:
            stop = start + group.num_rows
            yield Range(entry.name, entry.url, entry.version, start, stop, group.total_byte_size)
            start = stop


def _warn_of_contradictions(entries: Sequence[storage.Entry], footers: Sequence[pq.FileMetaData]) -> None:
    found = [
        (e, how) for e, footer in zip(entries, footers, strict=True) if (how := hive.contradictions(e.name, footer))
    ]
    if found:
        entry, how = found[0]
        log.warning(
            "%s: %s; the shard is believed, here and in %d other shards",
            entry.url,
            " and ".join(how.values()),
            len(found) - 1,
        )


def _in_common(schema: pa.Schema, other: pa.Schema, differing: Collection[str], url: str) -> pa.Schema:
    """Return the columns that both schemas have with the same meaning.

    Raises ShardsDifferError where they do not share the column of keys, which tell rows apart.
    """
    fields = set(other)
    common = pa.schema([field for field in schema if field in fields and field.name not in differing])
    if "key" not in common.names and "key" in (*schema.names, *other.names):
        raise ShardsDifferError(f"{url}: its column key is not that of the other shards; all have it alike, or none")
    return common


def read_range(wanted: Range, columns: Sequence[str] | None) -> pa.Table:
    """Return rows of one shard; fetch only the named columns and, of large row groups, the pages that hold the rows.

    The footer and the places of the pages are kept for the next range of the shard.
    """
    entry = require_unchanged(wanted)
    footer = _footers.get((entry.url, entry.version), lambda: _read_footer(entry))
    own = footer.schema.to_arrow_schema().names

    names = None if columns is None else [c for c in dict.fromkeys(["key", *columns]) if c in own]

    def fetch() -> pa.Table:
        with storage.open_read(wanted.url) as file:
            return reading.read(Shard(file, entry.url, entry.version, footer), wanted.start, wanted.stop, names)

    rows = _as_rows(retrying(fetch, wanted.url), wanted)
    for field in hive.fields(wanted.shard, own):
        if columns is None or field.name in columns:
            value = pa.scalar(hive.path_values(wanted.shard)[field.name], field.type)
            rows = rows.append_column(field, pa.repeat(value, len(rows)))
    return _of_shard(rows, wanted)


def no_rows(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Table:
    """Return what `read_range` gives for shards of this schema, but without any row."""
    names = schema.names if columns is None else [c for c in dict.fromkeys(["key", *columns]) if c in schema.names]
    empty = pa.schema([schema.field(name) for name in names], schema.metadata).empty_table()
    return _of_shard(_as_rows(empty, nowhere := Range("", "", "", 0, 0, 0)), nowhere)


def row_keys(of: Range) -> list[str]:
    """Return keys for rows without one of their own: their shard and their number in it."""
    return [f"{of.shard}#{row:09d}" for row in range(of.start, of.stop)]


def _as_rows(table: pa.Table, of: Range) -> pa.Table:
    """Return the columns of a range as a store gives them, with the keys of its rows."""
    features, fields, columns = features_as_read(table.schema), list(table.schema), table.columns
    if "key" not in table.column_names:
        # A table without columns does not know its number of rows.
        fields, columns = [pa.field("key", pa.string()), *fields], [pa.array(row_keys(of), pa.string()), *columns]
    fields = list(map(as_read, fields))
    columns = [c if c.type == f.type else _cast(c, f.type) for c, f in zip(columns, fields, strict=True)]
    rows = with_features(pa.Table.from_arrays(columns, schema=pa.schema(fields)), features)
    if not rows["key"].null_count:
        return rows
    marks = rows["key"].is_null()
    keys = pc.if_else(marks, pa.array(row_keys(of), pa.string()), rows["key"])
    return rows.set_column(rows.column_names.index("key"), "key", keys).append_column(NO_KEY, marks)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if "list_view" not in str(column.type):
        return column.cast(kind)
    # Arrow's own cast would make an invalid array here.
    return pa.chunked_array([pa.array(chunk.to_pylist(), kind) for chunk in column.chunks], kind)


def _of_shard(rows: pa.Table, of: Range) -> pa.Table:
    return rows.append_column(SHARD, pa.array([of.shard] * len(rows), pa.string()))


def _footer(entry: storage.Entry) -> pq.FileMetaData:
    try:
        return _read_footer(entry)
    except DamagedError as error:
        if isinstance(error.__cause__, BadBody):
            raise
        raise UserError(f"{entry.url}: not a readable Parquet file ({error.__cause__})") from None


def _read_footer(entry: storage.Entry) -> pq.FileMetaData:
    def fetch() -> pq.FileMetaData:
        with storage.open_read(entry.url) as file:
            return pq.read_metadata(file)

    return retrying(fetch, entry.url)


def _difference(expected: pa.Schema, found: pa.Schema) -> str:
    missing = [f"{f.name}: {f.type} missing" for f in expected if f.name not in found.names]
    more = [f"{f.name}: {f.type} unexpected" for f in found if f.name not in expected.names]
    other = [
        f"{f.name}: {found.field(f.name).type} instead of {f.type}"
        for f in expected
        if f.name in found.names and found.field(f.name).type != f.type
    ]
    nulls = [
        f"{f.name}: {'with' if found.field(f.name).nullable else 'without'} nulls, unlike there"
        for f in expected
        if f.name in found.names and found.field(f.name).nullable != f.nullable
    ]
    return "; ".join(missing + more + other + nulls) or "other order"
