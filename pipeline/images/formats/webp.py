"""WebP: its size, its texts, and its pixels without Pillow's decoder, which is that of animations."""

from __future__ import annotations

import numpy as np

from pipeline.images.basis import raster
from pipeline.images.basis.codecs import imagecodecs


def size_of(data: bytes | memoryview) -> tuple[int, int]:
    """Return width and height, given the first 30 bytes; zeros where they do not say."""
    start = bytes(data[:30])
    if start[12:16] == b"VP8X" and len(start) >= 30:
        return 1 + int.from_bytes(start[24:27], "little"), 1 + int.from_bytes(start[27:30], "little")
    if start[12:16] == b"VP8L" and len(start) >= 25:
        bits = int.from_bytes(start[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if start[12:16] == b"VP8 " and len(start) >= 30:
        width, height = int.from_bytes(start[26:28], "little"), int.from_bytes(start[28:30], "little")
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def pixels(data: bytes, out: np.ndarray, convert: raster.Convert | None, *, alpha: bool) -> np.ndarray:
    """Decode a still WebP to RGB, alpha over white, in `out`; Pillow's decoder holds the image five times."""
    if alpha:
        return raster.over_white(imagecodecs().webp_decode(data), out, convert)
    found = imagecodecs().webp_decode(data, out=out)
    if convert:
        raster.converted(found, convert)
    return found
