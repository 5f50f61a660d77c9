"""Geometry in the columns of a table, in lists and structs of any depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import UserError
from pipeline.geometry.kinds import Geometry, numbers_of
from pipeline.geometry.masks import moved_mask
from pipeline.geometry.transforms import Move, check_count, moved

REASON = "geometry"
"""Reason for rows whose geometry is not that of their picture."""


def check_geometry(geometry: Geometry, schema: pa.Schema, picture: str, place: str) -> None:
    """Raise UserError where a declared column is not in a store's schema, or has a type that cannot be of its kind.

    `picture` is the column that is translated, and `place` the store, for the message.
    """
    for name, kind in geometry.columns.items():
        first, *fields = name.split(".")
        if first == picture:
            raise UserError(f"{place}: column {name} is the picture that is translated, and no geometry of it")
        if first not in schema.names:
            raise UserError(
                f"{place}: no column {first} for --geometry {name} {kind}; it has {', '.join(schema.names)}"
            )
        leaf = _leaf(schema.field(first).type, fields)
        if leaf is None:
            raise UserError(
                f"{place}: column {first} is {schema.field(first).type}, without a field {'.'.join(fields)}"
            )
        if pa.types.is_null(leaf):
            continue  # a column without values has no type; those of other shards may have some
        is_picture = pa.types.is_struct(leaf) and leaf.get_field_index("bytes") >= 0
        if kind == "image" and not (is_picture or pa.types.is_binary(leaf) or pa.types.is_large_binary(leaf)):
            raise UserError(f"{place}: column {name} is {leaf}, and a mask is an encoded image: struct<bytes, path>")
        if kind != "image" and not (pa.types.is_integer(leaf) or pa.types.is_floating(leaf)):
            raise UserError(f"{place}: column {name} is {leaf}, and {kind} are lists of numbers")


def _leaf(kind: pa.DataType, fields: Sequence[str]) -> pa.DataType | None:
    """Return the type of the values that a path of fields leads to, through lists; None where it leads nowhere."""
    while any(is_one(kind) for is_one in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)):
        kind = kind.value_type
    if not fields or pa.types.is_null(kind):
        return kind
    if not pa.types.is_struct(kind) or kind.get_field_index(fields[0]) < 0:
        return None
    return _leaf(kind.field(fields[0]).type, fields[1:])


def followed(rows: pa.Table, geometry: Geometry, moves: Sequence[Move]) -> tuple[pa.Table, dict[int, tuple[str, str]]]:
    """Return `rows` with their geometry after each row's move, and the faults of rows whose geometry does not fit.

    Faults are (reason, message) by the position of the row, whose values are left as they were. Columns keep their
    types; in columns of whole numbers coordinates are rounded.
    """
    faults = dict[int, tuple[str, str]]()
    for name, kind in geometry.columns.items():
        first, *fields = name.split(".")
        whole = pa.types.is_integer(_leaf(rows.schema.field(first).type, fields))
        at, cells = rows.column_names.index(first), list[Any]()
        for i, (cell, move) in enumerate(zip(rows[first].to_pylist(), moves, strict=True)):
            try:
                cells.append(_changed(cell, fields, _change(kind, move, whole)))
            except ValueError as error:
                cells.append(cell)
                faults.setdefault(i, (REASON, f"{name}: {error}"))
        rows = rows.set_column(at, rows.field(at), pa.chunked_array([pa.array(cells, rows.field(at).type)]))
    return rows, faults


def moves_of(rows: pa.Table, geometry: Geometry, side: int | None) -> list[Move]:
    """Return how the picture of each row has moved, by what its file said of it; `side` is what it is resized to."""
    sizes = zip(rows["source_width"].to_pylist(), rows["source_height"].to_pylist(), strict=True)
    after = (side, side) if side and geometry.resized else None
    return [
        Move(orientation, size, after or size, geometry.frame)
        for size, orientation in zip(sizes, rows["exif_orientation"].to_pylist(), strict=True)
    ]


def _changed(value: Any, fields: Sequence[str], change: Callable[[Any], Any]) -> Any:
    """Return a cell with the values at the end of a path changed, in each of the lists on the way."""
    if value is None:
        return None
    if not fields:
        return change(value)
    if isinstance(value, list):
        return [_changed(each, fields, change) for each in value]
    return value | {fields[0]: _changed(value[fields[0]], fields[1:], change)}


def _change(kind: str, move: Move, whole: bool) -> Callable[[Any], Any]:
    if kind == "image":
        return lambda cell: _moved_mask(cell, move)
    return lambda cell: _moved_numbers(cell, kind, move, whole)


def _moved_mask(cell: Any, move: Move) -> Any:
    if isinstance(cell, list):
        return [None if each is None else _moved_mask(each, move) for each in cell]
    if not isinstance(cell, dict):
        return moved_mask(cell, move)
    return cell if cell["bytes"] is None else cell | {"bytes": moved_mask(cell["bytes"], move)}


def _moved_numbers(cell: Any, kind: str, move: Move, whole: bool) -> Any:
    """Return a list of numbers, or of lists of them, after a move. Raises ValueError where they are not of the kind."""
    if not isinstance(cell, list):
        raise ValueError(f"one number, and {kind} has {numbers_of(kind)}")
    if any(isinstance(each, list) for each in cell):
        return [None if each is None else _moved_numbers(each, kind, move, whole) for each in cell]
    if not cell:
        return cell
    if fault := check_count(len(cell), kind):
        raise ValueError(fault)
    if any(each is None for each in cell) or not np.isfinite(cell).all():
        raise ValueError("has a number that is missing or not finite")
    if move.is_none:
        return cell
    found = moved(np.asarray(cell, np.float64).reshape(-1, numbers_of(kind)), kind, move).ravel()
    return np.rint(found).astype(np.int64).tolist() if whole else found.tolist()
