"""TIFF, and EXIF, which uses the same format: the few tags that describe an image, read within bounded memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pipeline.images.blame import BadImage, unsupported

SIGNATURES = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")

_WIDTH, _HEIGHT = 256, 257
_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _BITS, _COMPRESSION, _PHOTOMETRIC, _DESCRIPTION = 254, 255, 258, 259, 262, 270
_ORIENTATION, _SAMPLES, _EXTRA_SAMPLES, _FORMAT, _SUBSAMPLING, _INK_SET, _DEPTH = 274, 277, 338, 339, 530, 332, 32997
_STRUCTURE = (_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _EXTRA_SAMPLES, _FORMAT)

_BASE_SAMPLES = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
"""Number of channels of each supported colour model: grey (two ways), RGB, palette, CMYK, YCbCr, CIE Lab."""
_COLOUR_MODELS = {4: "mask", 9: "ICC Lab", 10: "ITU Lab", 32803: "colour filter array", 34892: "linear raw"}
_ALPHA = (1, 2)
_UNSIGNED, _UNDEFINED = 1, 4
_COMPRESSIONS = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000}
"""Codes for none, CCITT (three ways), LZW, JPEG (old and new), Deflate (two codes), PackBits, LZMA, Zstandard."""

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGER_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_MOST_VALUES = 256
_MOST_PAGES = 10_000


class _Tag(NamedTuple):
    kind: int
    number_of_values: int
    values: tuple[int, ...]
    """First values, where they are integers."""
    raw: bytes
    """Beginning of the body."""
    size: int
    """Number of bytes of the body; 0 where it lies outside the file."""
    at: int
    """Position of the tag's entry in the file."""


_Directory = Mapping[int, _Tag]


def check(data: bytes) -> None:
    """Raise BadImage where an 8-bit image of three channels would leave out, or make up, a part of the file."""
    if data[:4] == b"MM\0+":
        raise unsupported("BigTIFF of big-endian numbers")
    directories = _directories(data)
    first = next(directories, None)
    if first is None:
        raise BadImage("corrupt", "TIFF: its directory lies outside the file")
    if sum(tag.size for tag in first.values()) > 4 * len(data) + 1_000_000:
        raise BadImage("corrupt", "TIFF: its tags lie over each other, and would fill the memory")
    for tag in _STRUCTURE:
        if tag in first and not first[tag].values:
            raise BadImage("corrupt", f"TIFF: tag {tag} is of type {first[tag].kind}, which holds no integers")
    _check_samples(first)
    _check_colours(first)
    if _is_reduced(first):
        raise unsupported("TIFF whose first picture is a reduced one of another (a raw file of a camera)")
    pages = 1 + sum(not _is_reduced(page) for page in directories)
    pages = max(pages, _stacked(first))
    if pages > 1:
        raise BadImage("several pictures", f"TIFF of {pages} pages; give each a file of its own")
    if _value(first, _DEPTH, 1) > 1:
        raise BadImage("several pictures", f"TIFF of {_value(first, _DEPTH, 1)} planes in depth")


def size_of(data: bytes | memoryview) -> tuple[int, int]:
    """Return width and height of the first image; zeros where its directory does not say. Never raises."""
    first = next(_directories(data), {})
    return _value(first, _WIDTH, 0), _value(first, _HEIGHT, 0)


def orientation(data: bytes) -> int | None:
    """Return the orientation, 1 to 8, in a TIFF or the body of an EXIF segment; None where it holds no valid one.

    Never raises: a broken directory gives None.
    """
    tag = next(_directories(data), {}).get(_ORIENTATION)
    if tag is None or tag.number_of_values != 1 or tag.kind not in (3, 4, 8, 9):
        return None
    return tag.values[0] if tag.values and tag.values[0] in range(1, 9) else None


def unturned(data: bytes) -> bytes:
    """Return the file with its orientation set to 1 (as stored), for decoders that would turn the image themselves."""
    tag = next(_directories(data), {}).get(_ORIENTATION)
    if tag is None or tag.values == (1,):
        return data
    order, big = ("<" if data[:2] == b"II" else ">"), 43 in data[2:4]
    entry = struct.pack(f"{order}HH{'Q' if big else 'I'}H", _ORIENTATION, 3, 1, 1)
    return data[: tag.at] + entry + data[tag.at + len(entry) :]


def _check_samples(first: _Directory) -> None:
    bits = first[_BITS].values if _BITS in first else (1,)
    if max(bits) > 8:
        raise unsupported(f"TIFF of {max(bits)} bits a sample (pictures of up to 8 are supported)")
    formats = first[_FORMAT].values if _FORMAT in first else (_UNSIGNED,)
    if not set(formats) <= {_UNSIGNED, _UNDEFINED}:
        named = {2: "signed integers", 3: "floating-point numbers", 5: "complex integers", 6: "complex numbers"}
        other = next(f for f in formats if f not in (_UNSIGNED, _UNDEFINED))
        raise unsupported(f"TIFF of {named.get(other, f'sample format {other}')} (8-bit pictures are supported)")
    photometric = _value(first, _PHOTOMETRIC, 0)
    base = _BASE_SAMPLES.get(photometric)
    if base is None:
        raise unsupported(f"TIFF of colour model {_COLOUR_MODELS.get(photometric, photometric)}")
    jpeg_of_three = _value(first, _COMPRESSION, 1) == 6
    samples = _value(first, _SAMPLES, 3 if jpeg_of_three else len(bits))
    extra = first[_EXTRA_SAMPLES].values if _EXTRA_SAMPLES in first else ()
    one_alpha = samples == base + 1 and len(extra) == 1 and extra[0] in _ALPHA
    if samples > base and not one_alpha:
        raise unsupported(f"TIFF of {samples} channels, {samples - base} of them beyond its colours and no alpha")


def _check_colours(first: _Directory) -> None:
    photometric, compression = _value(first, _PHOTOMETRIC, 0), _value(first, _COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        raise unsupported(f"TIFF of compression {compression}")
    if photometric == 5 and _value(first, _INK_SET, 1) != 1:
        raise unsupported("TIFF of inks other than CMYK")
    subsampling = first[_SUBSAMPLING].values if _SUBSAMPLING in first else (2, 2)
    if photometric == 6 and compression == 1 and subsampling != (1, 1):
        raise unsupported("TIFF of uncompressed YCbCr with subsampling")


def _is_reduced(page: _Directory) -> bool:
    """Return True where a page is a smaller version or a mask of another one, not an image of its own."""
    return bool(_value(page, _NEW_SUBFILE_TYPE, 0) & 0b101) or _value(page, _SUBFILE_TYPE, 1) == 2


def _stacked(first: _Directory) -> int:
    """Return the number of images that ImageJ puts behind one directory, as it does for large stacks."""
    text = first[_DESCRIPTION].raw if _DESCRIPTION in first else b""
    lines = dict(line.partition(b"=")[::2] for line in text.split(b"\n")) if text.startswith(b"ImageJ=") else {}
    images = lines.get(b"images", b"1").strip()
    return int(images) if images.isdigit() else 1


def _value(directory: _Directory, tag: int, default: int) -> int:
    return directory[tag].values[0] if tag in directory and directory[tag].values else default


def _directories(data: bytes | memoryview) -> Iterator[_Directory]:
    """Yield the directories of a file, first to last; stop at one that lies outside the file."""
    if data[:4] not in SIGNATURES:
        return
    order, big = "<" if data[:2] == b"II" else ">", 43 in data[2:4]
    entry, width, pointer = (20, 8, "Q") if big else (12, 4, "I")
    head = 8 if big else 4
    seen = set[int]()
    at = _number(data, head, order + pointer)
    while at and at not in seen and len(seen) < _MOST_PAGES:
        seen.add(at)
        count = _number(data, at, order + ("Q" if big else "H"))
        first = at + (8 if big else 2)
        if count is None or first + count * entry > len(data):
            return
        yield dict(_tag(data, first + i * entry, order, width, pointer) for i in range(count))
        at = _number(data, first + count * entry, order + pointer)


def _tag(data: bytes | memoryview, at: int, order: str, width: int, pointer: str) -> tuple[int, _Tag]:
    """Return the number of the tag at a position, and the tag."""
    number, kind, count = struct.unpack_from(f"{order}HH{pointer}", data, at)
    size = count * _TYPE_BYTES.get(kind, 0)
    place = at + 4 + width
    where = place if size <= width else struct.unpack_from(order + pointer, data, place)[0]
    if where + size > len(data):
        return number, _Tag(kind, count, (), b"", 0, at)
    few = min(count, _MOST_VALUES)
    values = struct.unpack_from(f"{order}{few}{_INTEGER_CODES[kind]}", data, where) if kind in _INTEGER_CODES else ()
    return number, _Tag(kind, count, values, bytes(data[where : where + min(size, 4096)]), size, at)


def _number(data: bytes | memoryview, at: int, code: str) -> int | None:
    """Return the number at a position, or None where that is outside the file."""
    inside = at + struct.calcsize(code) <= len(data)
    return struct.unpack_from(code, data, at)[0] if inside else None
