"""Values of columns as JSON, and back to exactly the same, whatever their type.

JSON has null, true and false, numbers, text, lists and objects. Integers and finite floats are numbers; NaN and the
infinities are the texts NaN, Infinity and -Infinity. Bytes are base64. Dates, times, timestamps and durations are whole
numbers in the unit of their type, since 1970 where they are points in time. Decimals are text, maps lists of pairs, and
dictionary-encoded values are the values themselves. Types of other kinds are Arrow IPC in base64.
"""

from __future__ import annotations

import base64
import decimal
import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

_NATIVE = (
    pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_string, pa.types.is_large_string,
)  # fmt: skip
_BINARY = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
_INSTANTS = (pa.types.is_date, pa.types.is_time, pa.types.is_timestamp, pa.types.is_duration)
_ODD = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_json(column: pa.ChunkedArray | pa.Array) -> list[Any]:
    """Return each value of a column as `json.dumps` takes it."""
    kind = column.type
    if _is_native(kind):
        return column.to_pylist()
    if not _is_spoken(kind):
        return [_packed(column, i) if cell.is_valid else None for i, cell in enumerate(column)]
    return [_said(cell) for cell in column]


def from_json(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Invert `to_json` for values of this type. Raises ValueError, ArrowException or TypeError where they are none."""
    if _is_native(kind):
        return pa.array(values, kind)
    if not _is_spoken(kind):
        cells = [pa.nulls(1, kind) if value is None else _unpacked(value, kind) for value in values]
        return pa.concat_arrays(cells) if cells else pa.array([], kind)
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, from_json(values, kind.storage_type))
    if pa.types.is_dictionary(kind):
        return from_json(values, kind.value_type).dictionary_encode().cast(kind)
    return pa.array([_meant(value, kind) for value in values], kind)


def _is_native(kind: pa.DataType) -> bool:
    """Return True where values of this type need no translation."""
    if pa.types.is_struct(kind):
        return _has_plain_names(kind) and all(_is_native(field.type) for field in kind)
    if _is_list(kind):
        return _is_native(kind.value_type)
    return any(is_one(kind) for is_one in _NATIVE)


def _is_spoken(kind: pa.DataType, *, top: bool = True) -> bool:
    """Return True where values of this type are JSON that a reader can make sense of."""
    if pa.types.is_struct(kind):
        return _has_plain_names(kind) and all(_is_spoken(field.type, top=False) for field in kind)
    if _is_list(kind):
        return _is_spoken(kind.value_type, top=False)
    if pa.types.is_map(kind):
        return _is_spoken(kind.key_type, top=False) and _is_spoken(kind.item_type, top=False)
    if isinstance(kind, pa.BaseExtensionType):  # deeper, Arrow cannot make one of plain values
        return top and _is_spoken(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return top and not kind.ordered and not pa.types.is_nested(kind.value_type) and _is_spoken(kind.value_type)
    others = (pa.types.is_floating, pa.types.is_decimal128, pa.types.is_decimal256)
    return any(is_one(kind) for is_one in (*_NATIVE, *_BINARY, *_INSTANTS, *others))


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _has_plain_names(kind: pa.DataType) -> bool:
    names = [field.name for field in kind]
    return len(set(names)) == len(names)


def _said(cell: pa.Scalar) -> Any:
    if not cell.is_valid:
        return None
    kind = cell.type
    if isinstance(kind, pa.BaseExtensionType):
        return _said(cell.value)
    if pa.types.is_dictionary(kind):
        return _said(cell.value)
    if pa.types.is_map(kind):
        return [[_said(pair["key"]), _said(pair["value"])] for pair in cell.values]
    if _is_list(kind):
        return [_said(each) for each in cell.values]
    if pa.types.is_struct(kind):
        return {field.name: _said(cell[field.name]) for field in kind}
    if pa.types.is_floating(kind):
        value = float(cell.as_py())
        return value if math.isfinite(value) else "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"
    if any(is_one(kind) for is_one in _BINARY):
        return base64.b64encode(cell.as_py()).decode()
    if any(is_one(kind) for is_one in _INSTANTS):
        return cell.value
    if pa.types.is_decimal(kind):
        return str(cell.as_py())
    return cell.as_py()


def _meant(value: Any, kind: pa.DataType) -> Any:
    """Return what Arrow takes for a value of this type."""
    if value is None:
        return None
    if pa.types.is_map(kind):
        return [(_meant(key, kind.key_type), _meant(item, kind.item_type)) for key, item in value]
    if _is_list(kind):
        return [_meant(each, kind.value_type) for each in value]
    if pa.types.is_struct(kind):
        return {field.name: _meant(value.get(field.name), field.type) for field in kind}
    if pa.types.is_floating(kind):
        return _ODD[value] if isinstance(value, str) else float(value)
    if any(is_one(kind) for is_one in _BINARY):
        return base64.b64decode(value, validate=True)
    if pa.types.is_decimal(kind):
        return decimal.Decimal(value)
    return value


def _packed(column: pa.ChunkedArray | pa.Array, at: int) -> str:
    array = column.slice(at, 1)
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    sink = pa.BufferOutputStream()
    batch = pa.record_batch([pa.concat_arrays([array])], names=["value"])  # a copy, without the rest of its buffers
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return base64.b64encode(sink.getvalue()).decode()


def _unpacked(text: str, kind: pa.DataType) -> pa.Array:
    table = pa.ipc.open_stream(base64.b64decode(text, validate=True)).read_all()
    found = table["value"].combine_chunks()
    if found.type != kind:
        raise ValueError(f"holds {found.type} where {kind} has to be")
    return found
