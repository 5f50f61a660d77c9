"""Rows of one shard as the rows of its store come: in the store's schema, and each with a key."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.stores.tables import kinds, pictures
from pipeline.stores.tables.features import features_of, with_features
from pipeline.stores.tables.row_schema import RowSchema
from pipeline.stores.tables.schema import image_columns


def as_wanted(
    rows: pa.Table, count: int, own: pa.Schema, row_schema: RowSchema, columns: Sequence[str] | None
) -> pa.Table:
    """Return `count` rows of one shard in the schema of its store: all of its columns, or those named and `key`.

    `own` has the columns as the shard has them; a table without columns does not know its number of rows. A column that
    is not in `rows` is null. Raises ArrowInvalid where a value does not fit, which the survey of the shards excludes.
    """
    fields = [field for field in row_schema.schema if columns is None or field.name in ("key", *columns)]
    arrays = [
        _as(rows[field.name], own.field(field.name), field)
        if field.name in rows.column_names
        else pa.chunked_array([pa.nulls(count, field.type)])
        for field in fields
    ]
    return with_features(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), features_of(row_schema.schema))


def _as(column: pa.ChunkedArray, own: pa.Field, wanted: pa.Field) -> pa.ChunkedArray:
    """Return the values of a column in the type that is wanted."""
    if wanted.name == "key":
        return key_texts(column)
    is_picture = bool(image_columns(pa.schema([wanted])))
    if is_picture and not image_columns(pa.schema([own])) and pictures.form_of(own):
        column = pictures.to_pictures(column, own)
    return column if column.type == wanted.type else cast(column, wanted.type)


def cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column in a type that holds its values."""
    if "list_view" in str(column.type):
        # Arrow's own cast would make an invalid array here.
        return pa.chunked_array([pa.array(chunk.to_pylist(), kind) for chunk in column.chunks], kind)
    return column.cast(kind)


def key_texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return keys of any type that `kinds.can_be_key` allows as text: numbers in digits, UUIDs as they are written."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not kinds.is_uuid(column.type):
        return column if pa.types.is_string(column.type) else column.cast(pa.string())
    return pa.chunked_array([_uuid_texts(chunk) for chunk in column.chunks], pa.string())


def _uuid_texts(chunk: pa.Array) -> pa.Array:
    stored = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
    digits = [value and value.hex() for value in stored.to_pylist()]
    parts = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
    return pa.array([d and "-".join(d[start:stop] for start, stop in parts) for d in digits], pa.string())


def named(rows: pa.Table, shard: str, numbers: Sequence[str], row_schema: RowSchema | None) -> pa.Table:
    """Return rows with a key each: `numbers`, their names by shard and number, where a row has no key of its own.

    By the rule by_shard, the shard stands before a row's own key.
    """
    if "key" not in rows.column_names:
        fields, columns = [pa.field("key", pa.string()), *rows.schema], [pa.array(numbers, pa.string()), *rows.columns]
        return pa.Table.from_arrays(columns, schema=pa.schema(fields, rows.schema.metadata))
    at = rows.column_names.index("key")
    keys = own = rows.column(at)
    if row_schema is not None and row_schema.keys == "by_shard":
        keys = pc.binary_join_element_wise(pa.scalar(shard), keys, "#")
    if keys.null_count:
        keys = pc.if_else(keys.is_null(), pa.array(numbers, pa.string()), keys)
    return rows if keys is own else rows.set_column(at, rows.schema.field(at), keys)
