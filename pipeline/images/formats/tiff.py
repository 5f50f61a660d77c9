"""TIFF, and EXIF, which uses the same format: the few tags that describe an image, read within bounded memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pipeline.images.basis.blame import BadImage, unsupported
from pipeline.images.basis.pixel_type import PixelType

SIGNATURES = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")

_WIDTH, _HEIGHT = 256, 257
_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _BITS, _COMPRESSION, _PHOTOMETRIC, _DESCRIPTION = 254, 255, 258, 259, 262, 270
_ORIENTATION, _SAMPLES, _EXTRA_SAMPLES, _FORMAT, _SUBSAMPLING, _INK_SET, _DEPTH = 274, 277, 338, 339, 530, 332, 32997
_OFFSETS, _ROWS, _SIZES, _PLANAR, _PREDICTOR, _XMP, _PROFILE = 273, 278, 279, 284, 317, 700, 34675
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_SIZES = 322, 323, 324, 325
_STRUCTURE = (_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _EXTRA_SAMPLES, _FORMAT)

_BASE_SAMPLES = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
"""Number of channels of each supported colour model: grey (two ways), RGB, palette, CMYK, YCbCr, CIE Lab."""
_GREY = (0, 1)
_COLOUR_MODELS = {
    3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "CIE Lab", 9: "ICC Lab", 10: "ITU Lab",
    32803: "colour filter array", 34892: "linear raw",
}  # fmt: skip
_ALPHA = (1, 2)
_UNSIGNED, _UNDEFINED = 1, 4
_COMPRESSIONS = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000}
"""Codes for none, CCITT (three ways), LZW, JPEG (old and new), Deflate (two codes), PackBits, LZMA, Zstandard: what
Pillow reads where samples have at most 8 bits."""
_WIDE_COMPRESSIONS = {1, 5, 8, 32773, 32946, 34925, 50000}
"""Those that libtiff reads with any number of channels of 8 or 16 bits."""
BY_PARTS = {33005: "jpeg2k", 34712: "jpeg2k", 50001: "webp", 50002: "jpegxl", 52546: "jpegxl"}
"""Codecs of imagecodecs for strips and tiles that are pictures of their own."""

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
    where: int
    """Position of its body."""


_Directory = Mapping[int, _Tag]


def check(data: bytes, *, first: bool = False) -> None:
    """Raise BadImage where a decoder would leave out, or make up, a part of the file.

    Pages after the `first` are left out only where no more is wanted.
    """
    directories = _directories(data)
    page = next(directories, None)
    if page is None:
        raise BadImage("corrupt", "TIFF: its directory lies outside the file")
    if sum(tag.size for tag in page.values()) > 4 * len(data) + 1_000_000:
        raise BadImage("corrupt", "TIFF: its tags lie over each other, and would fill the memory")
    for tag in _STRUCTURE:
        if tag in page and not page[tag].values:
            raise BadImage("corrupt", f"TIFF: tag {tag} is of type {page[tag].kind}, which holds no integers")
    _check_samples(page)
    _check_colours(page)
    found = samples(data) if data[:4] == b"MM\0+" else None
    if found and not (found.bits in (8, 16) and found.photometric in (*_GREY, 2)):
        raise unsupported("BigTIFF of big-endian numbers, of palettes, of few bits, or of colours that are not RGB")
    if is_reduced(page):
        raise unsupported("TIFF whose first picture is a reduced one of another (a raw file of a camera)")
    if _value(page, _DEPTH, 1) > 1:
        raise BadImage("several pictures", f"TIFF of {_value(page, _DEPTH, 1)} planes in depth")
    if first:
        return
    pages = 1 + sum(not is_reduced(each) for each in directories)
    pages = max(pages, stacked(page))
    if pages > 1:
        raise BadImage("several pictures", f"TIFF of {pages} pages; give each a file of its own")


class Samples(NamedTuple):
    """How the first image of a file is laid out."""

    width: int
    height: int
    bits: int
    channels: int
    """Channels as stored, alpha among them."""
    base: int
    """Channels of the colour model: the first ones."""
    alpha: int | None
    """Position of alpha among the channels."""
    multiplied: bool
    """True where colours are multiplied with their alpha."""
    white_is_zero: bool
    photometric: int
    compression: int
    predictor: int
    large: bool
    """True for a BigTIFF of big-endian numbers, which Pillow does not read."""
    planar: bool
    """True where each channel is stored apart."""
    rows: int
    """Height of a strip or a tile."""
    columns: int
    """Width of a strip or a tile."""
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    """Positions and lengths of strips or tiles in the file."""

    @property
    def type(self) -> PixelType:
        """Return the type of the decoded pixels: colours without alpha, then all channels that are no colours."""
        colours = 1 if self.photometric in _GREY else 3
        return PixelType(colours + self.channels - self.base - (self.alpha is not None), 8 if self.bits <= 8 else 16)

    @property
    def sound(self) -> bool:
        """Return True where there are such pixels."""
        return self.channels >= self.base and (self.bits <= 8 or self.bits == 16)

    @property
    def plain(self) -> bool:
        """Return True where Pillow reads all of it."""
        further = self.channels - self.base - (self.alpha is not None)
        return self.bits <= 8 and further <= 0 and self.compression in _COMPRESSIONS and not self.large

    @property
    def by_libtiff(self) -> bool:
        """Return True where libtiff reads its compression, whatever the channels."""
        return self.compression in _WIDE_COMPRESSIONS


def samples(data: bytes | memoryview) -> Samples | None:
    """Return how the first image is laid out; None where its directory does not say. Never raises."""
    page = next(_directories(data), {})
    depths = page[_BITS].values if _BITS in page else (1,)
    photometric = _value(page, _PHOTOMETRIC, 0)
    if not page or not depths or photometric not in _BASE_SAMPLES:
        return None
    base, channels = _BASE_SAMPLES[photometric], _samples(page)
    width, height = _value(page, _WIDTH, 0), _value(page, _HEIGHT, 0)
    extra = page[_EXTRA_SAMPLES].values if _EXTRA_SAMPLES in page else ()
    alphas = [base + i for i, kind in enumerate(extra) if kind in _ALPHA and base + i < channels]
    tiled = _TILE_OFFSETS in page
    offsets, sizes = (page.get(tag) for tag in ((_TILE_OFFSETS, _TILE_SIZES) if tiled else (_OFFSETS, _SIZES)))
    return Samples(
        width=width,
        height=height,
        bits=max(depths),
        channels=channels,
        base=base,
        alpha=alphas[0] if alphas else None,
        multiplied=bool(alphas) and extra[alphas[0] - base] == 1,
        white_is_zero=photometric == 0,
        photometric=photometric,
        compression=_value(page, _COMPRESSION, 1),
        predictor=_value(page, _PREDICTOR, 1),
        large=data[:4] == b"MM\0+",
        planar=_value(page, _PLANAR, 1) == 2,
        rows=_value(page, _TILE_HEIGHT, 0) if tiled else min(_value(page, _ROWS, height), height),
        columns=_value(page, _TILE_WIDTH, 0) if tiled else width,
        offsets=_numbers(data, offsets) if offsets else (),
        sizes=_numbers(data, sizes) if sizes else (),
    )


def type_of(data: bytes | memoryview) -> PixelType | None:
    """Return the type of the decoded pixels; None where the first directory does not say. Never raises."""
    found = samples(data)
    return found.type if found and found.sound else None


def size_of(data: bytes | memoryview) -> tuple[int, int]:
    """Return width and height of the first image; zeros where its directory does not say. Never raises."""
    first = next(_directories(data), {})
    return _value(first, _WIDTH, 0), _value(first, _HEIGHT, 0)


def xmp(data: bytes) -> bytes | None:
    """Return the XMP of the first image; None where it has none."""
    return _body(data, _XMP)


def profile(data: bytes) -> bytes | None:
    """Return the ICC profile of the first image; None where it has none."""
    return _body(data, _PROFILE)


def readable(data: bytes) -> bool:
    """Return True where there is a directory that lies inside the data."""
    return next(_directories(data), None) is not None


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


def _check_samples(page: _Directory) -> None:
    depths = page[_BITS].values if _BITS in page else (1,)
    bits, photometric = max(depths), _value(page, _PHOTOMETRIC, 0)
    if bits > 8 and set(depths) != {16}:
        raise unsupported(f"TIFF of {bits} bits a sample (up to 8, and 16, are supported)")
    formats = page[_FORMAT].values if _FORMAT in page else (_UNSIGNED,)
    if not set(formats) <= {_UNSIGNED, _UNDEFINED}:
        named = {2: "signed integers", 3: "floating-point numbers", 5: "complex integers", 6: "complex numbers"}
        other = next(f for f in formats if f not in (_UNSIGNED, _UNDEFINED))
        raise unsupported(f"TIFF of {named.get(other, f'sample format {other}')} (unsigned integers are supported)")
    base = _BASE_SAMPLES.get(photometric)
    if base is None:
        raise unsupported(f"TIFF of colour model {_COLOUR_MODELS.get(photometric, photometric)}")
    channels = _samples(page)
    extra = page[_EXTRA_SAMPLES].values if _EXTRA_SAMPLES in page else ()
    if sum(kind in _ALPHA for kind in extra) > 1:
        raise unsupported("TIFF of several alpha channels")
    one_alpha = channels == base + 1 and len(extra) == 1 and extra[0] in _ALPHA
    if (bits == 16 or (channels > base and not one_alpha)) and photometric not in (*_GREY, 2):
        model = _COLOUR_MODELS.get(photometric, "no grey and no RGB")
        raise unsupported(f"TIFF of {channels} channels of {bits} bits, of colour model {model}")
    if channels > base and not one_alpha and set(depths) not in ({8}, {16}):
        raise unsupported(f"TIFF of {channels} channels of {bits} bits (of 8 and 16 bits they are supported)")


def _samples(page: _Directory) -> int:
    """Return the number of channels as stored."""
    depths = page[_BITS].values if _BITS in page else (1,)
    return _value(page, _SAMPLES, 3 if _value(page, _COMPRESSION, 1) == 6 else len(depths))


def _check_colours(page: _Directory) -> None:
    photometric, compression = _value(page, _PHOTOMETRIC, 0), _value(page, _COMPRESSION, 1)
    bits, channels = max(page[_BITS].values if _BITS in page else (1,)), _samples(page)
    plain = bits <= 8 and channels <= _BASE_SAMPLES[photometric] + 1 and compression in _COMPRESSIONS
    by_parts = compression in BY_PARTS and photometric in (*_GREY, 2) and bits in (8, 16)
    if not (plain or compression in _WIDE_COMPRESSIONS or by_parts):
        raise unsupported(f"TIFF of compression {compression}, with {channels} channels of {bits} bits")
    if photometric == 5 and _value(page, _INK_SET, 1) != 1:
        raise unsupported("TIFF of inks other than CMYK")
    subsampling = page[_SUBSAMPLING].values if _SUBSAMPLING in page else (2, 2)
    if photometric == 6 and compression == 1 and subsampling != (1, 1):
        raise unsupported("TIFF of uncompressed YCbCr with subsampling")


def is_reduced(page: _Directory) -> bool:
    """Return True where a page is a smaller version or a mask of another one, not an image of its own."""
    return bool(_value(page, _NEW_SUBFILE_TYPE, 0) & 0b101) or _value(page, _SUBFILE_TYPE, 1) == 2


def stacked(first: _Directory) -> int:
    """Return the number of images that ImageJ puts behind one directory, as it does for large stacks."""
    text = first[_DESCRIPTION].raw if _DESCRIPTION in first else b""
    lines = dict(line.partition(b"=")[::2] for line in text.split(b"\n")) if text.startswith(b"ImageJ=") else {}
    images = lines.get(b"images", b"1").strip()
    return int(images) if images.isdigit() else 1


def _body(data: bytes, tag: int) -> bytes | None:
    found = next(_directories(data), {}).get(tag)
    return None if found is None else data[found.where : found.where + found.size]


def _numbers(data: bytes | memoryview, tag: _Tag) -> tuple[int, ...]:
    """Return all numbers of a tag; none where it holds no integers, or lies outside the file."""
    if tag.kind not in _INTEGER_CODES or not tag.size:
        return ()
    order = "<" if data[:2] == b"II" else ">"
    return struct.unpack_from(f"{order}{tag.number_of_values}{_INTEGER_CODES[tag.kind]}", data, tag.where)


def _value(directory: _Directory, tag: int, default: int) -> int:
    return directory[tag].values[0] if tag in directory and directory[tag].values else default


def _directories(data: bytes | memoryview) -> Iterator[_Directory]:
    return (directory for *_, directory in directories(data))


def directories(data: bytes | memoryview) -> Iterator[tuple[int, int, _Directory]]:
    """Yield the directories of a file, first to last; stop at one that lies outside the file.

    Each comes with its position and with that of the number that says where the next one is.
    """
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
        link = first + count * entry
        yield at, link, dict(_tag(data, first + i * entry, order, width, pointer) for i in range(count))
        at = _number(data, link, order + pointer)


def _tag(data: bytes | memoryview, at: int, order: str, width: int, pointer: str) -> tuple[int, _Tag]:
    """Return the number of the tag at a position, and the tag."""
    number, kind, count = struct.unpack_from(f"{order}HH{pointer}", data, at)
    size = count * _TYPE_BYTES.get(kind, 0)
    place = at + 4 + width
    where = place if size <= width else struct.unpack_from(order + pointer, data, place)[0]
    if where + size > len(data):
        return number, _Tag(kind, count, (), b"", 0, at, where)
    few = min(count, _MOST_VALUES)
    values = struct.unpack_from(f"{order}{few}{_INTEGER_CODES[kind]}", data, where) if kind in _INTEGER_CODES else ()
    return number, _Tag(kind, count, values, bytes(data[where : where + min(size, 4096)]), size, at, where)


def _number(data: bytes | memoryview, at: int, code: str) -> int | None:
    """Return the number at a position, or None where that is outside the file."""
    inside = at + struct.calcsize(code) <= len(data)
    return struct.unpack_from(code, data, at)[0] if inside else None
