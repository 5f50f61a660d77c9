"""Thrift's compact protocol, in which Parquet keeps footers and page headers: bytes to plain data and back.

A struct is a dict from the number of a field to `(kind, value)`, so that fields nobody here knows survive a round trip.
A list is `(kind of its elements, elements)`, a double its 8 bytes.
"""

from __future__ import annotations

from typing import Any

TRUE, FALSE, I8, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
"""Kinds of values. A bool is a field of kind TRUE or FALSE."""

Struct = dict[int, tuple[int, Any]]

_LONG = 15
"""Mark of a list whose length has bytes of its own."""
_DEEPEST = 32


def decode(data: bytes, at: int = 0) -> tuple[Struct, int]:
    """Return the struct that begins at byte `at`, and where it ends.

    Raises EOFError where the data end before the struct does, and ValueError where they are no struct.
    """
    reader = _Reader(data, at)
    return reader.value(STRUCT, _DEEPEST), reader.at


def encode(struct: Struct) -> bytes:
    """Return the bytes of a struct."""
    out = bytearray()
    _write(out, STRUCT, struct)
    return bytes(out)


def varint(number: int) -> bytes:
    """Return a number from 0 on in 7 bits a byte, the lowest first; lengths of runs in Parquet have this form, too."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self._data, self.at = data, at

    def value(self, kind: int, depth: int) -> Any:
        if not depth:
            raise ValueError("structs nested too deep")
        if kind == STRUCT:
            return self._struct(depth)
        if kind in (LIST, SET):
            head = self._byte()
            length = self._varint() if head >> 4 == _LONG else head >> 4
            return head & 0x0F, [self.value(head & 0x0F, depth - 1) for _ in range(length)]
        if kind in (I16, I32, I64):
            zigzag = self._varint()
            return zigzag >> 1 ^ -(zigzag & 1)
        if kind == BINARY:
            return self._bytes(self._varint())
        if kind == DOUBLE:
            return self._bytes(8)
        if kind in (TRUE, FALSE, I8):  # of one byte, where it is an element of a list
            return self._byte()
        raise ValueError(f"a value of kind {kind}, which Parquet does not use")

    def _struct(self, depth: int) -> Struct:
        fields, number = Struct(), 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self.value(I16, depth)
            kind = head & 0x0F
            fields[number] = kind, None if kind in (TRUE, FALSE) else self.value(kind, depth - 1)
        return fields

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, length: int) -> bytes:
        start, self.at = self.at, self.at + length
        if self.at > len(self._data):
            raise EOFError(f"a value ends at byte {self.at} of {len(self._data)}")
        return self._data[start : self.at]

    def _varint(self) -> int:
        number = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            number |= (byte & 0x7F) << shift
            if byte <= 0x7F:
                return number
        raise ValueError("a number of more than 64 bits")


def _write(out: bytearray, kind: int, value: Any) -> None:
    if kind == STRUCT:
        before = 0
        for number, (inner, content) in sorted(value.items()):
            if 0 < number - before <= 15:
                out.append(number - before << 4 | inner)
            else:
                out.append(inner)
                _write(out, I16, number)
            before = number
            if inner not in (TRUE, FALSE):
                _write(out, inner, content)
        out.append(0)
    elif kind in (LIST, SET):
        inner, elements = value
        out.append(min(len(elements), _LONG) << 4 | inner)
        if len(elements) >= _LONG:
            out += varint(len(elements))
        for element in elements:
            _write(out, inner, element)
    elif kind in (I16, I32, I64):
        out += varint(value << 1 if value >= 0 else (-value << 1) - 1)
    elif kind == BINARY:
        out += varint(len(value)) + value
    elif kind == DOUBLE:
        out += value
    else:
        out.append(value)
