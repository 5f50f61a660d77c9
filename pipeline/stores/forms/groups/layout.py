"""Footer of a Parquet shard as plain data: the leaves of its columns, and where each row group has their chunks."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from pipeline.stores.forms.groups import thrift
from pipeline.stores.forms.groups.thrift import Struct

BYTE_ARRAY = 6
"""Physical type of values of any length."""
_OPTIONAL, _REPEATED = 1, 2


class Leaf(NamedTuple):
    """Column as Parquet stores it; a column of structs has several."""

    path: str
    """Dotted path, as pyarrow names it."""
    physical: int
    """Physical type; BYTE_ARRAY is the one that images have."""
    levels: int
    """Number of its ancestors, itself included, that can be null: 0 for a required one."""
    is_flat: bool
    """True where each row has one value, or null."""

    def is_of(self, columns: Sequence[str]) -> bool:
        """Return True where pyarrow reads this leaf for these columns."""
        return any(f"{self.path}.".startswith(f"{column}.") for column in columns)


class Chunk(NamedTuple):
    """Values of one leaf in one row group."""

    start: int
    """Position of its first page in the file."""
    size: int
    """Number of its bytes, as stored."""
    rows: int
    """Number of its values, nulls included: for a flat leaf, that of the row group's rows."""
    offset_index: tuple[int, int] | None
    """Position and number of bytes of its offset index, where it has one."""

    @property
    def stop(self) -> int:
        return self.start + self.size


class Layout(NamedTuple):
    """Footer of a shard, taken apart."""

    footer: Struct
    """FileMetaData of parquet.thrift, whose field numbers all code here uses."""
    leaves: Sequence[Leaf]
    size: int
    """Number of bytes of the footer."""


def layout_of(footer: pq.FileMetaData) -> Layout:
    """Return the layout of the shard with this footer."""
    buffer = io.BytesIO()
    footer.write_metadata_file(buffer)
    data = buffer.getvalue()
    parsed, _ = thrift.decode(data, len(data) - 8 - int.from_bytes(data[-8:-4], "little"))
    elements = iter(content(parsed, 2))
    root = next(elements)
    leaves = [leaf for _ in range(content(root, 5, 0)) for leaf in _leaves(elements, "", 0, is_flat=True)]
    return Layout(parsed, leaves, len(data))


def content(struct: Struct, number: int, default: Any = None) -> Any:
    """Return what a field holds, a list as its elements; `default` where the struct lacks it.

    Raises ValueError where there is no struct, as in damaged bytes.
    """
    if not isinstance(struct, dict):
        raise ValueError(f"{struct!r}, where fields were to be")
    kind, value = struct.get(number, (None, default))
    return value[1] if kind == thrift.LIST else value


def described(layout: Layout, group: int) -> list[Struct]:
    """Return the ColumnChunk of each leaf in a row group."""
    found: list[Struct] = content(content(layout.footer, 4)[group], 1)
    return found


def chunk_of(column: Struct) -> Chunk:
    """Return the place of the chunk that a ColumnChunk describes."""
    about = content(column, 3)
    dictionary = content(about, 11, 0)
    start = min(dictionary, content(about, 9)) if dictionary > 0 else content(about, 9)
    index = (content(column, 4), content(column, 5)) if 4 in column and 5 in column else None
    return Chunk(start, content(about, 7), content(about, 5), index)


def _leaves(elements: Iterator[Struct], above: str, levels: int, *, is_flat: bool) -> Iterator[Leaf]:
    """Yield the leaves of the next element of a schema, which lists parents before their children."""
    element = next(elements)
    path = above + content(element, 4).decode()
    repetition, children = content(element, 3, 0), content(element, 5, 0)
    levels += repetition in (_OPTIONAL, _REPEATED)
    is_flat = is_flat and repetition != _REPEATED
    if not children:
        yield Leaf(path, content(element, 1), levels, is_flat)
    for _ in range(children):
        yield from _leaves(elements, f"{path}.", levels, is_flat=is_flat)
