"""Parquet shards: planned from their footers, and read by row ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.storage.retry import retrying
from pipeline.stores.forms import hive, naming
from pipeline.stores.forms.form import File
from pipeline.stores.forms.groups import reading
from pipeline.stores.forms.groups.reading import Shard
from pipeline.stores.forms.groups.recent import Recent
from pipeline.stores.forms.shard import ShardForm, encode_shard
from pipeline.stores.forms.survey import open_shards, read_footer
from pipeline.stores.tables.conforming import as_wanted, cast, key_texts, named
from pipeline.stores.tables.features import with_features
from pipeline.stores.tables.options import StoreOptions
from pipeline.stores.tables.ranges import Range, cut_range, joined, row_keys
from pipeline.stores.tables.schema import SHARD, Store, as_read, features_as_read, require_unchanged, together

_KEY_THREADS = 8
_KEYS = 65_536
"""Keys that one thread reads at a time."""
_PIECE_BYTES = 32_000_000
"""Encoded bytes to read at a time where only some rows are wanted."""

_footers = Recent[pq.FileMetaData](16_000_000, lambda footer: footer.serialized_size)
"""Cache, for this process, of the footers of shards that are read by ranges; decoded, they take six times as much."""


class Parquet(ShardForm):
    """Parquet shards, in folders that may name columns."""

    name, title, one = "parquet", "Parquet shards", "Parquet shard"
    unlisted = "Parquet files whose name, or folder's name, begins with _"
    stands_alone = True

    def reads(self, name: str) -> bool:
        return naming.is_shard(name)

    def lists(self, name: str) -> bool:
        return naming.is_shard(name) and not naming.is_reserved(name)

    def open(self, url: str, entries: storage.Entries, *, alike: bool = True) -> Store:
        return open_shards(url, entries, alike=alike)

    def open_by(self, url: str, entries: storage.Entries, options: StoreOptions, *, alike: bool = True) -> Store:
        return open_shards(url, entries, alike=alike, options=options)

    def read_range(self, piece: Range, columns: Sequence[str] | None, wants: Callable[[str], bool] | None) -> pa.Table:
        if wants is None:
            return read_range(piece, columns)
        parts = cut_range(piece, piece.rows, _PIECE_BYTES)
        return together([_wanted(read_range(part, columns), wants) for part in parts])

    def row_names(self, piece: Range) -> list[str]:
        return row_keys(piece)

    def keys(self, store: Store) -> Iterator[tuple[str, Sequence[str]]]:
        pieces = (piece for whole in joined(store.ranges) for piece in cut_range(whole, _KEYS, max(whole.size, 1)))
        if "key" not in store.schema.names:
            yield from ((piece.url, row_keys(piece)) for piece in pieces)
            return
        yield from storage.ahead(lambda piece: (piece.url, _own_keys(piece)), pieces, _KEY_THREADS)

    def has_unique_keys(self, store: Store) -> bool:
        return "key" not in store.schema.names

    def encode(
        self, rows: pa.Table, notes: Mapping[str, str], column: str, extension: str
    ) -> tuple[bytes, Mapping[str, pa.Buffer]]:
        return encode_shard(rows, notes), {}

    def files(self, data: bytes) -> Sequence[File]:
        return ()


def _own_keys(piece: Range) -> list[str]:
    return read_range(piece, ["key"])["key"].to_pylist()


def _wanted(rows: pa.Table, wants: Callable[[str], bool]) -> pa.Table:
    return rows.filter(pa.array(map(wants, rows["key"].to_pylist()), pa.bool_()))


def read_range(wanted: Range, columns: Sequence[str] | None) -> pa.Table:
    """Return rows of one shard; fetch only the named columns and, of large row groups, the pages that hold the rows.

    The footer and the places of the pages are kept for the next range of the shard.
    """
    entry = require_unchanged(wanted)
    footer = _footers.get((entry.url, entry.version), lambda: read_footer(entry))
    own = footer.schema.to_arrow_schema()
    if columns is None and wanted.row_schema is not None:
        columns = wanted.row_schema.schema.names
    names = None if columns is None else [c for c in dict.fromkeys(["key", *columns]) if c in own.names]

    def fetch() -> pa.Table:
        with storage.open_read(wanted.url, entry) as file:
            return reading.read(Shard(file, entry.url, entry.version, footer), wanted.start, wanted.stop, names)

    rows = retrying(fetch, wanted.url)
    for field in hive.fields(wanted.shard, own.names):
        own = own.append(field)
        if columns is None or field.name in columns:
            value = pa.scalar(hive.path_values(wanted.shard)[field.name], field.type)
            # Not appended, since a table without columns has no rows.
            arrays = [*rows.columns, pa.repeat(value, wanted.rows)]
            rows = pa.Table.from_arrays(arrays, schema=rows.schema.append(field))
    return _of_shard(_as_rows(rows, wanted, own, columns), wanted)


def no_rows(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Table:
    """Return what `read_range` gives for shards of this schema, but without any row."""
    names = schema.names if columns is None else [c for c in dict.fromkeys(["key", *columns]) if c in schema.names]
    empty = pa.schema([schema.field(name) for name in names], schema.metadata).empty_table()
    return _of_shard(_as_rows(empty, nowhere := Range("", "", "", 0, 0, 0), empty.schema, columns), nowhere)


def _as_rows(table: pa.Table, of: Range, own: pa.Schema, columns: Sequence[str] | None) -> pa.Table:
    """Return the columns of a range as a store gives them, with the keys of its rows.

    `own` has all columns of the shard. The table may have none, and then does not know its number of rows.
    """
    if of.row_schema is not None:
        rows = as_wanted(table, of.rows, own, of.row_schema, columns)
    else:
        features, fields = features_as_read(table.schema), list(map(as_read, table.schema))
        arrays = [_as_type(c, f) for c, f in zip(table.columns, fields, strict=True)]
        rows = with_features(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), features)
    has_keys = (
        "key" in rows.column_names
        and not rows["key"].null_count
        and (of.row_schema is None or of.row_schema.keys == "own")
    )
    return rows if has_keys else named(rows, of.shard, row_keys(of), of.row_schema)


def _as_type(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    if field.name == "key":
        return key_texts(column)
    return column if column.type == field.type else cast(column, field.type)


def _of_shard(rows: pa.Table, of: Range) -> pa.Table:
    return rows.append_column(SHARD, pa.array([of.shard] * len(rows), pa.string()))
