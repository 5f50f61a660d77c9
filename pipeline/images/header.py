"""Sizes and types of encoded images, from their headers: what decoding will take is known before a pixel is decoded."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping

from PIL import BmpImagePlugin, GifImagePlugin, Image

from pipeline.images.basis.blame import MAX_PIXELS
from pipeline.images.basis.pixel_type import RGB, PixelType
from pipeline.images.basis.raster import GREY_MODES
from pipeline.images.formats import avif, boxes, jpeg, jxl, png, tiff, webp
from pipeline.images.formats.signatures import format_of

Size = tuple[int, int]
"""Width and height in pixels."""

NONE: Size = (0, 0)

_TYPES: Mapping[str, Callable[[bytes], PixelType | None]] = {
    "PNG": png.type_of,
    "JPEG": jpeg.type_of,
    "WEBP": lambda _: RGB,
    "TIFF": tiff.type_of,
    "AVIF": avif.type_of,
    "HEIF": avif.heif_type_of,
    "JPEG XL": jxl.type_of,
}

_BROKEN = (OSError, SyntaxError, ValueError, IndexError, KeyError, TypeError, EOFError, struct.error)
"""Errors of Pillow about a header that is broken."""


def size_of(data: bytes | memoryview) -> Size:
    """Return width and height of the image in `data`, as stored; zeros where its header promises none.

    Never raises: decoding finds the fault. Reads a few bytes of a large file.
    """
    data = memoryview(data)
    start = bytes(data[:64])
    if start[:2] == b"BM":
        width, height = _numbers(start, 18, 2 if start[14:18] == b"\x0c\0\0\0" else 4, "little", signed=True)
        return abs(width), abs(height)  # a negative height means that the top row comes first
    match format_of(start):
        case "PNG":
            return _numbers(start, 16, 4, "big") if start[12:16] == b"IHDR" else NONE
        case "JPEG":
            return jpeg.size_of(data)
        case "WEBP":
            return webp.size_of(start)
        case "TIFF":
            return tiff.size_of(data)
        case "AVIF" | "HEIF":
            return avif.size_of(data)
        case "JPEG XL":
            return jxl.size_of(data)
        case "GIF":
            return _numbers(start, 6, 2, "little")
    return NONE


def type_of(data: bytes | memoryview) -> PixelType | None:
    """Return the type of the image in `data`, as `decode(..., wanted=None)` gives it; None where no header says it.

    Palettes are expanded, alpha is gone. Never raises: decoding finds the fault.
    """
    kind = format_of(data)
    if kind is None:
        return None
    if kind in _TYPES:
        return _TYPES[kind](bytes(data))
    opened = BmpImagePlugin.BmpImageFile if kind == "BMP" else GifImagePlugin.GifImageFile
    try:
        with opened(io.BytesIO(data)) as image:
            return PixelType(1 if image.mode in GREY_MODES else 3)
    except (*_BROKEN, Image.DecompressionBombError):
        return None


def has_alpha(data: bytes, kind: str) -> bool:
    """Return True where the header of a file of this format, one of those that Pillow does not read, says alpha."""
    match kind:
        case "PNG":
            return png.has_alpha(data)
        case "TIFF":
            return (found := tiff.samples(data)) is not None and found.alpha is not None
        case "AVIF" | "HEIF":
            return boxes.primary(data).alpha
        case "JPEG XL":
            return (said := jxl.header(data)) is not None and said.alpha
    return False


def decoded_bytes(data: bytes | memoryview, wanted: PixelType | None = RGB) -> int:
    """Return the bytes of the decoded image, by its header; of the largest one that is decoded, where it promises more.

    Zero where the header promises nothing. Never raises.
    """
    width, height = size_of(data)
    pixel_type = wanted or type_of(data) or RGB
    return min(pixel_type.bytes * min(width * height, MAX_PIXELS), 6 * MAX_PIXELS)


def _numbers(data: bytes, at: int, size: int, order: str, *, signed: bool = False) -> Size:
    """Return the two numbers of so many bytes at a position; zeros where they are not all there."""
    if len(data) < at + 2 * size:
        return NONE
    first, second = (
        int.from_bytes(data[i : i + size], "big" if order == "big" else "little", signed=signed)
        for i in (at, at + size)
    )
    return first, second
