"""Record batches of an Arrow stream or file, by the heads of its messages alone: where each is, and its rows.

A message is a marker, a length, a head in the format of FlatBuffers, and a body; a file is a stream between two marks.
https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

_MAGIC = b"ARROW1"
_MARKER = 0xFFFFFFFF
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_MOST_HEAD = 1 << 28

Read = Callable[[int, int], bytes]
"""Function that returns bytes from an offset, so many, or fewer at the end."""


class ArrowError(ValueError):
    """A file that is no Arrow stream, or a damaged one. Its text goes on from the file's name."""


@dataclass(frozen=True, eq=False)
class Batches:
    """Record batches of one stream."""

    head: bytes
    """Messages that a reader needs before any batch: the schema and the dictionaries."""
    offset: np.ndarray
    """Position of each batch's message, [batches] int64."""
    size: np.ndarray
    """Bytes of each, [batches] int64."""
    rows: np.ndarray
    """Rows of each, [batches] int64."""

    @property
    def schema(self) -> pa.Schema:
        """Return the columns. Raises ArrowError where they cannot be read."""
        try:
            return pa.ipc.open_stream(self.head).schema
        except (pa.ArrowException, OSError) as error:
            raise ArrowError(f"is damaged: its columns cannot be read ({error}); get it anew") from None

    def table(self, message: bytes) -> pa.Table:
        """Return the rows of a batch, from its message."""
        return pa.ipc.open_stream(self.head + message).read_all()


def batches_of(read: Read, size: int) -> Batches:
    """Return the batches of a stream or file of `size` bytes. Raises ArrowError where it is none, or is cut off."""
    at = 8 if read(0, 6) == _MAGIC else 0
    head, offset, sizes, rows = b"", array("q"), array("q"), array("q")
    while True:
        start = read(at, 8)
        if len(start) < 8:
            raise ArrowError(f"is cut off at byte {at + len(start)}; get it anew")
        marker, length = struct.unpack("<Ii", start)
        if marker != _MARKER:
            raise ArrowError("is no Arrow stream" if not head else f"is damaged at byte {at}; get it anew")
        if length == 0:
            break
        if not 0 < length <= min(_MOST_HEAD, size - at):
            raise ArrowError(f"is damaged or cut off at byte {at}; get it anew")
        try:
            kind, body, count = _described(read(at + 8, length))
        except (struct.error, IndexError):
            raise ArrowError(f"is damaged at byte {at}; get it anew") from None
        whole = 8 + length + body
        if body < 0 or at + whole > size:
            raise ArrowError(f"is cut off: the message at byte {at} is of {whole} bytes, and {size - at} are there")
        if kind == _BATCH:
            offset.append(at)
            sizes.append(whole)
            rows.append(count)
        elif kind in (_SCHEMA, _DICTIONARY) and not offset:
            head += read(at, whole)
        else:  # a dictionary that changes between batches, or a tensor
            raise ArrowError(f"has a message of kind {kind} at byte {at}, which is not read; write it as Parquet")
        at += whole
    columns = (np.array(column, np.int64) for column in (offset, sizes, rows))
    return Batches(head, *columns)


def _described(head: bytes) -> tuple[int, int, int]:
    """Return kind, bytes of the body and rows (of a batch) from the head of a message."""
    root = struct.unpack_from("<I", head)[0]
    kind, body = _field(head, root, 1), _field(head, root, 3)
    inner = _field(head, root, 2)
    found = head[kind] if kind else 0
    length = struct.unpack_from("<q", head, body)[0] if body else 0
    if found != _BATCH:
        return found, length, 0
    rows = _field(head, inner + struct.unpack_from("<I", head, inner)[0], 0)
    return found, length, struct.unpack_from("<q", head, rows)[0] if rows else 0


def _field(head: bytes, table: int, number: int) -> int:
    """Return the position of a field of a table of FlatBuffers; 0 where it is left out."""
    fields = table - struct.unpack_from("<i", head, table)[0]
    if 6 + 2 * number > struct.unpack_from("<H", head, fields)[0]:
        return 0
    offset = struct.unpack_from("<H", head, fields + 4 + 2 * number)[0]
    return table + offset if offset else 0
