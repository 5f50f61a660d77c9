"""Members of a tar, by their headers alone: where each file's bytes are, without reading them.

Formats: ustar, PAX, GNU (long names, sizes in base 256) and V7. The standard library's reader ends in silence at a
damaged header in the middle of an archive, and at the end mark of the first of several that were joined; here the one
is an error, and the others are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

BLOCK = 512
_ZEROS = bytes(BLOCK)
_PADDING = 1 << 20
"""Bytes of padding after an end mark in which another archive may begin; `tar` pads to a multiple of 10,240."""
_MOST_EXTENDED = 1 << 28
"""Limit, in bytes, of an extended header, so that a damaged size is not read into memory."""

Read = Callable[[int, int], bytes]
"""Function that returns bytes of a tar, from an offset, so many, or fewer where it ends."""


class TarError(ValueError):
    """A tar that is damaged, cut off, or of a kind that is not read. Its text goes on from the tar's name."""


class Kind(Enum):
    """Kinds of members."""

    FILE = "files"
    FOLDER = "folders"
    LINK = "links"
    OTHER = "members that are no files"


class Member(NamedTuple):
    """One member of a tar."""

    name: str
    """Name as it stands; bytes that are not UTF-8 appear as \\xNN."""
    kind: Kind
    offset: int
    """Position of its first byte."""
    size: int


@dataclass
class Heard:
    """What a tar says beside its members, known once all of them have been taken."""

    notes: dict[str, str] = field(default_factory=dict)
    """Records of its global PAX headers."""
    body: int = 0
    """Position after the global header that it begins with; 0 where there is none."""
    has_end: bool = False
    """True where it has an end mark. Without one it may have been cut off after any member."""


def members(read: Read, size: int, heard: Heard) -> Iterator[Member]:
    """Yield the members of a tar of `size` bytes, in order, and fill in what is `heard`.

    Only headers are asked for. Raises TarError where it is damaged, cut off, or has a sparse member.
    """
    at, said = 0, dict[str, str]()
    while 0 <= at < size:
        block = read(at, BLOCK)
        if not block.strip(b"\0"):
            heard.has_end = len(block) == BLOCK
            at = _next_archive(read, at + BLOCK, size)
            continue
        kind, name, length = _header(block, at)
        content = at + BLOCK
        if kind in (b"x", b"X", b"g", b"L", b"K"):
            text = _extended(read, content, length, size)
            if kind == b"g":
                heard.notes.update(_records(text, at))
                heard.body = content + _padded(length) if at == 0 else heard.body
            elif kind in (b"x", b"X"):
                said |= _records(text, at)
            elif kind == b"L":
                said["path"] = _text(text)
            at = content + _padded(length)
            continue
        name = said.get("path", name)
        length = _whole(said.get("size", str(length)), at)
        if kind == b"S" or any(each.startswith("GNU.sparse") for each in said):
            raise TarError(f"has a sparse member, {name}, which is not read; write it anew with tar, without --sparse")
        said = {}
        of = _kind(kind, name)
        held = 0 if kind in (b"1", b"2", b"3", b"4", b"5", b"6") else length
        if content + held > size:
            raise TarError(
                f"is cut off: {name} is of {held} bytes, and {max(size - content, 0)} are there; get it anew"
            )
        yield Member(name, of, content, held)
        at = content + _padded(held)
    if said:
        raise TarError(f"is cut off at byte {size}, after the header of a name; get it anew")


def _kind(flag: bytes, name: str) -> Kind:
    if flag in (b"0", b"\0", b"7"):
        return Kind.FOLDER if name.endswith("/") else Kind.FILE
    return {b"1": Kind.LINK, b"2": Kind.LINK, b"5": Kind.FOLDER}.get(flag, Kind.OTHER)


def _header(block: bytes, at: int) -> tuple[bytes, str, int]:
    """Return type flag, name and size from a header block. Raises TarError where it is none."""
    if len(block) < BLOCK:
        raise TarError(f"is cut off at byte {at + len(block)}, inside of a header; get it anew")
    said = block[148:156].partition(b"\0")[0].strip()
    if not said.isdigit() or _octal(said) not in (_sum(block), _sum(block, signed=True)):
        what = "is no tar" if at == 0 else f"is damaged: at byte {at} there is no header of a member"
        raise TarError(f"{what}; get it anew")
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = f"{prefix}/{name}"
    return block[156:157], name, _number(block[124:136], at)


def _octal(digits: bytes) -> int:
    return int(digits, 8) if set(digits) <= set(b"01234567") else -1


def _sum(block: bytes, *, signed: bool = False) -> int:
    """Return the checksum of a header, which counts its own field as spaces."""
    total = sum(block[:148]) + sum(block[156:]) + 8 * 32
    return total - 256 * sum(byte > 127 for byte in block[:148] + block[156:]) if signed else total


def _number(data: bytes, at: int) -> int:
    if data[0] & 0x80:
        if data[0] not in (0x80, 0xFF):
            raise TarError(f"is damaged: the header at byte {at} has no number where one has to be; get it anew")
        return int.from_bytes(data[1:], "big", signed=data[0] == 0xFF)
    return _whole(data.partition(b"\0")[0].decode("latin-1").strip() or "0", at, base=8)


def _whole(text: str, at: int, *, base: int = 10) -> int:
    try:
        found = int(text, base)
    except ValueError:
        found = -1
    if found < 0:
        raise TarError(f"is damaged: the header at byte {at} has no number where one has to be; get it anew")
    return found


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _extended(read: Read, at: int, length: int, size: int) -> bytes:
    """Return the content of an extended header."""
    if at + length > size or length > _MOST_EXTENDED:
        raise TarError(
            f"is damaged or cut off: the extended header at byte {at - BLOCK} is of {length} bytes; get it anew"
        )
    return read(at, length)


def _records(data: bytes, at: int) -> dict[str, str]:
    """Return the records of a PAX header: each is its own length, a space, name=value and a newline."""
    found, start = dict[str, str](), 0
    while start < len(data) and data[start]:
        digits = data[start : start + 20].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        record = data[start : start + length]
        name, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if length <= len(digits) + 1 or len(record) < length or record[-1:] != b"\n" or not equals:
            raise TarError(f"is damaged: the extended header at byte {at} cannot be read; get it anew")
        found[name.decode("utf-8", "backslashreplace")] = value.decode("utf-8", "backslashreplace")
        start += length
    return found


def _next_archive(read: Read, at: int, size: int) -> int:
    """Return where another archive begins in what follows an end mark, or -1."""
    for start in range(at, min(size, at + _PADDING), BLOCK):
        block = read(start, BLOCK)
        if block != _ZEROS:
            try:
                _header(block, start)
            except TarError:  # bytes of no meaning, which every reader ignores here
                return -1
            return start
    return -1
