"""Types of columns: the one type in which the values of two types are the same, and which values can be keys.

Writers differ in harmless ways: one says large_string and another string, one makes a dictionary, one leaves a column
without values without a type. Values of both are then given on in a type that holds each of them unchanged.
"""

from __future__ import annotations

import pyarrow as pa

_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_list_view, pa.types.is_large_list_view)
_SIGNED = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
_UNSIGNED = {8: pa.uint8(), 16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}
_FLOATS = {16: pa.float16(), 32: pa.float32(), 64: pa.float64()}
_UUID_BYTES = 16


def is_text(kind: pa.DataType) -> bool:
    """Return True for text of any layout."""
    return any(holds(kind) for holds in _TEXT)


def is_bytes(kind: pa.DataType) -> bool:
    """Return True for bytes of any length, in any layout."""
    return any(holds(kind) for holds in _BYTES)


def is_list(kind: pa.DataType) -> bool:
    """Return True for lists of any length, in any layout."""
    return any(holds(kind) for holds in _LISTS)


def is_uuid(kind: pa.DataType) -> bool:
    """Return True for 16 bytes, which are taken for a UUID where keys are read."""
    return kind == pa.uuid() or (pa.types.is_fixed_size_binary(kind) and kind.byte_width == _UUID_BYTES)


def can_be_key(kind: pa.DataType) -> bool:
    """Return True where each value has one text: text itself, whole numbers and UUIDs; null is a missing key."""
    kind = _plain(kind)
    is_whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
    return is_text(kind) or is_whole or is_uuid(kind) or pa.types.is_null(kind)


def common(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return a type that holds every value of both unchanged; None where there is none, or only by a change of kind.

    A type without values (null) goes with any, a dictionary with its values, text and lists with those of another
    layout. Integers widen, signed and unsigned ones together, and so do floating-point numbers, and decimals of one
    scale. Structs have the same fields, in the order of the first.
    """
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    one, other = _plain(one), _plain(other)
    if one == other:
        return one
    if is_text(one) and is_text(other):
        return pa.string()
    if is_bytes(one) and is_bytes(other):
        return pa.binary()
    if is_list(one) and is_list(other):
        inner = common_field(one.value_field, other.value_field)
        return pa.list_(inner) if inner is not None else None
    if pa.types.is_nested(one):
        return _nested(one, other)
    return _number(one, other)


def common_field(one: pa.Field, other: pa.Field) -> pa.Field | None:
    """Return the field of the common type, nullable where either is, with the name and the metadata of the first."""
    kind = common(one.type, other.type)
    return None if kind is None else one.with_type(kind).with_nullable(one.nullable or other.nullable)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _nested(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        theirs = {field.name: field for field in other}
        mine = [field.name for field in one]
        if len(set(mine)) < len(mine) or set(mine) != theirs.keys() or len(other) != len(theirs):
            return None
        fields = [common_field(field, theirs[field.name]) for field in one]
        return None if any(field is None for field in fields) else pa.struct(fields)
    if pa.types.is_map(one) and pa.types.is_map(other):
        key, item = common(one.key_type, other.key_type), common_field(one.item_field, other.item_field)
        is_sorted = one.keys_sorted and other.keys_sorted
        return None if key is None or item is None else pa.map_(key, item, keys_sorted=is_sorted)
    if pa.types.is_fixed_size_list(one) and pa.types.is_fixed_size_list(other) and one.list_size == other.list_size:
        inner = common_field(one.value_field, other.value_field)
        return None if inner is None else pa.list_(inner, one.list_size)
    return None


def _number(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if pa.types.is_integer(one) and pa.types.is_integer(other):
        signs = {pa.types.is_signed_integer(kind): kind.bit_width for kind in (one, other)}
        if len(signs) == 1:
            widths = _SIGNED if pa.types.is_signed_integer(one) else _UNSIGNED
            return widths[max(one.bit_width, other.bit_width)]
        # A signed type holds an unsigned one of half its width.
        return _SIGNED.get(max(signs[True], 2 * signs[False]))
    if pa.types.is_floating(one) and pa.types.is_floating(other):
        return _FLOATS[max(one.bit_width, other.bit_width)]
    if pa.types.is_decimal(one) and pa.types.is_decimal(other) and one.scale == other.scale:
        return max(one, other, key=lambda kind: (kind.precision, kind.bit_width))
    return None
