"""Sizes of encoded images, from their first bytes: what decoding will take is known before a pixel is decoded."""

from __future__ import annotations

from pipeline.images import jpeg, png, tiff

Size = tuple[int, int]
"""Width and height in pixels."""

NONE: Size = (0, 0)


def size_of(data: bytes | memoryview) -> Size:
    """Return width and height of the image in `data`, as stored; zeros where its header promises none.

    Never raises: decoding finds the fault. Reads a few bytes of a large file.
    """
    data = memoryview(data)
    start = bytes(data[:32])
    if start.startswith(png.SIGNATURE):
        return _numbers(start, 16, 4, "big") if start[12:16] == b"IHDR" else NONE
    if start.startswith(b"\xff\xd8\xff"):
        return jpeg.size_of(data)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return webp_size(start)
    if start[:4] in tiff.SIGNATURES:
        return tiff.size_of(data)
    if start[:2] == b"BM":
        width, height = _numbers(start, 18, 2 if start[14:18] == b"\x0c\0\0\0" else 4, "little", signed=True)
        return abs(width), abs(height)  # a negative height means that the top row comes first
    return NONE


def webp_size(start: bytes) -> Size:
    """Return width and height of a WebP file, given its first 30 bytes."""
    if start[12:16] == b"VP8X" and len(start) >= 30:
        width, height = _numbers(start, 24, 3, "little")
        return width + 1, height + 1
    if start[12:16] == b"VP8L" and len(start) >= 25:
        bits = int.from_bytes(start[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if start[12:16] == b"VP8 " and len(start) >= 30:
        width, height = _numbers(start, 26, 2, "little")
        return width & 0x3FFF, height & 0x3FFF
    return NONE


def _numbers(data: bytes, at: int, size: int, order: str, *, signed: bool = False) -> Size:
    """Return the two numbers of so many bytes at a position; zeros where they are not all there."""
    if len(data) < at + 2 * size:
        return NONE
    first, second = (
        int.from_bytes(data[i : i + size], "big" if order == "big" else "little", signed=signed)
        for i in (at, at + size)
    )
    return first, second
