"""Pixels of a TIFF that Pillow does not read whole: 16 bits, any number of channels, and strips that are pictures."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from pipeline.images.basis import raster
from pipeline.images.basis.codecs import imagecodecs
from pipeline.images.formats import jxl, tiff, webp


def reads(data: bytes) -> bool:
    """Return True where these pixels could be had, too, of a file that another decoder has given up."""
    found = tiff.samples(data)
    return found is not None and found.bits in (8, 16) and found.photometric in (0, 1, 2) and found.by_libtiff


def pixels(data: bytes, place: raster.Place) -> np.ndarray:
    """Return the pixels of the first image as its type says: alpha over white, white the largest number.

    Raises ValueError where a part of them is missing; the decoders raise errors of their own.
    """
    found = tiff.samples(data)
    if found is None:
        raise ValueError("its directory does not describe an image")
    _check_parts(data, found)
    dtype = found.type.dtype
    stored = (found.height, found.width, found.channels)
    as_stored = found.alpha is None and not found.planar
    whole = place(stored, dtype) if as_stored else raster.empty(stored, dtype)
    if found.compression in tiff.BY_PARTS:
        _by_parts(data, found, whole)
    else:
        _by_libtiff(data, found, whole)
    if found.white_is_zero:
        np.subtract(found.type.peak, whole[..., :1], out=whole[..., :1])
    if found.alpha is None:
        if as_stored:
            return whole
        out = place(stored, dtype)
        out[...] = whole
        return out
    out = place(found.type.shape(found.height, found.width), dtype)
    alpha = whole[..., found.alpha : found.alpha + 1]
    raster.blended(whole[..., : found.base], alpha, out[..., : found.base], multiplied=found.multiplied)
    further = [i for i in range(found.base, found.channels) if i != found.alpha]
    for i, channel in enumerate(further, found.base):
        out[..., i] = whole[..., channel]
    return out


def _size_of_jpeg2k(data: bytes) -> tuple[int, int]:
    """Return width and height of a JPEG 2000 codestream (ISO/IEC 15444-1, A.5.1); zeros for anything else."""
    if data[:4] != b"\xff\x4f\xff\x51" or len(data) < 24:
        return 0, 0
    right, bottom, left, top = struct.unpack_from(">4I", data, 8)
    return right - left, bottom - top


_SIZES: Mapping[str, Callable[[bytes], tuple[int, int]]] = {
    "jpeg2k": _size_of_jpeg2k, "webp": webp.size_of, "jpegxl": jxl.size_of,
}  # fmt: skip
"""Size that the header of a strip or tile promises: it is known before anything is decoded."""


def _check_parts(data: bytes, found: tiff.Samples) -> None:
    """Raise ValueError unless all strips or tiles have bytes in the file: some readers fill those without by zeros."""
    down, across = (
        -(-side // max(part, 1)) for side, part in ((found.height, found.rows), (found.width, found.columns))
    )
    parts = down * across * (found.channels if found.planar else 1)
    if min(found.rows, found.columns) < 1 or not parts == len(found.offsets) == len(found.sizes):
        raise ValueError(f"{len(found.offsets)} strips or tiles do not make the image")
    for i, (offset, size) in enumerate(zip(found.offsets, found.sizes, strict=True)):
        if not 0 < size <= len(data) - offset:
            raise ValueError(f"strip or tile {i} has {size} bytes from {offset} on, in a file of {len(data)}")


def _by_libtiff(data: bytes, found: tiff.Samples, out: np.ndarray) -> None:
    """Decode into `out`, which is contiguous, by libtiff."""
    if not found.planar or found.channels == 1:
        imagecodecs().tiff_decode(data, out=out if found.channels > 1 else out[..., 0])
        return
    planes = raster.empty((found.channels, found.height, found.width), out.dtype)
    imagecodecs().tiff_decode(data, out=planes)
    out[...] = planes.transpose(1, 2, 0)


def _by_parts(data: bytes, found: tiff.Samples, out: np.ndarray) -> None:
    """Decode strips or tiles, each of which is a picture in a format of its own, into `out`."""
    if found.predictor != 1:
        raise ValueError(f"predictor {found.predictor} over compression {found.compression} is not supported")
    decode = getattr(imagecodecs(), f"{tiff.BY_PARTS[found.compression]}_decode")
    channels = 1 if found.planar else found.channels
    for (plane, top, left), offset, size in zip(_parts(found), found.offsets, found.sizes, strict=True):
        height, width = min(found.rows, found.height - top), min(found.columns, found.width - left)
        encoded = data[offset : offset + size]
        promised = _SIZES[tiff.BY_PARTS[found.compression]](encoded)
        if promised not in ((width, height), (found.columns, found.rows)):
            raise ValueError(f"a strip or tile has {promised[0]} × {promised[1]} pixels, not {width} × {height}")
        part = decode(encoded)
        part = part[..., None] if part.ndim == 2 else part
        if part.shape[2] == channels - 1 and found.alpha == channels - 1:  # WebP leaves out alpha that hides nothing
            part = np.concatenate([part, np.full_like(part[..., :1], found.type.peak)], axis=-1)
        if part.dtype != out.dtype or part.shape[2] != channels or part.shape[0] < height or part.shape[1] < width:
            raise ValueError(f"a strip or tile is {part.dtype} {part.shape}, not {out.dtype} [{height}, {width}]")
        target = out[..., plane : plane + 1] if found.planar else out
        target[top : top + height, left : left + width] = part[:height, :width]


def _parts(found: tiff.Samples) -> Iterator[tuple[int, int, int]]:
    """Yield the plane and the upper left corner of each strip or tile, in the order of the file."""
    for plane in range(found.channels if found.planar else 1):
        for top in range(0, found.height, found.rows):
            for left in range(0, found.width, found.columns):
                yield plane, top, left
