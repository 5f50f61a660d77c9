"""Tables that describe images, from CSV, JSON lines or Parquet, with types that lose nothing."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from pipeline.stores.tables.features import features_of, with_features
from pipeline.stores.tables.schema import as_read

_BLOCK = 1 << 24
"""Bytes that are parsed at a time; no line may be longer."""
_WHOLE = r"^-?(0|[1-9][0-9]{0,17})$"
_NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
_TRUTHS = (("true", "false"), ("True", "False"), ("TRUE", "FALSE"))


def table_of(name: str, data: bytes) -> pa.Table:
    """Return the rows of a file of this name. Raises ArrowException where they cannot be read.

    In CSV, a column is of whole numbers, numbers or truths where all of its cells are; a number with zeros before it is
    text, and an empty cell is null unless it is text. In JSON lines, what looks like a time stays text.
    """
    if name.endswith(".csv"):
        return _csv(data)
    if name.endswith(".jsonl"):
        return _json_lines(data)
    found = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
    plain = pa.schema([as_read(field) if field.name != "key" else field for field in found.schema])
    return with_features(
        found.cast(plain) if plain != found.schema.remove_metadata() else found, features_of(found.schema)
    )


def _csv(data: bytes) -> pa.Table:
    read = pa.csv.ReadOptions(block_size=_BLOCK)
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    names = pa.csv.open_csv(io.BytesIO(data), read_options=read, parse_options=parse).schema.names
    convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    table = pa.csv.read_csv(io.BytesIO(data), read_options=read, parse_options=parse, convert_options=convert)
    return pa.table([_typed(column) for column in table.columns], names=table.column_names)


def _typed(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of texts as one of the type that all of them are."""
    filled = pc.not_equal(cells, "")
    said = cells.filter(filled)
    if not len(said):
        return cells
    held = pc.if_else(filled, cells, pa.scalar(None, pa.string()))
    for pattern, kind in ((_WHOLE, pa.int64()), (_NUMBER, pa.float64())):
        if pc.all(pc.match_substring_regex(said, pattern)).as_py():
            return held.cast(kind)
    for true, false in _TRUTHS:
        if pc.all(pc.is_in(said, pa.array([true, false]))).as_py():
            return pc.equal(held, true)
    return cells


def _json_lines(data: bytes) -> pa.Table:
    read = pa.json.ReadOptions(block_size=max(min(len(data), _BLOCK), 1))
    found = pa.json.read_json(io.BytesIO(data), read_options=read)
    texts = pa.schema([field.with_type(_with_texts(field.type)) for field in found.schema])
    if texts == found.schema:
        return found
    return pa.json.read_json(
        io.BytesIO(data), read_options=read, parse_options=pa.json.ParseOptions(explicit_schema=texts)
    )


def _with_texts(kind: pa.DataType) -> pa.DataType:
    """Return a type with text in place of times, which JSON does not have, and of what was null everywhere."""
    if pa.types.is_timestamp(kind) or pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_with_texts(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_with_texts(field.type)) for field in kind])
    return kind
