"""AVIF by libavif, and HEIF where pillow-heif is installed: types, refusals and pixels.

Samples of 10 and 12 bits become samples of 16 bits, full intensity full intensity.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import AvifImagePlugin

from pipeline.images.basis import raster
from pipeline.images.basis.blame import BadImage, unsupported
from pipeline.images.basis.codecs import imagecodecs
from pipeline.images.basis.pixel_type import PixelType
from pipeline.images.formats import boxes

_INSTALL = "HEIF is read where pillow-heif is installed (pip install 'transdomain[heif]')"


def type_of(data: bytes | memoryview) -> PixelType | None:
    """Return the type of the decoded pixels; None where the boxes do not say."""
    found = boxes.primary(data)
    return PixelType(found.channels, 8 if found.bits == 8 else 16) if 8 <= found.bits <= 16 else None


def size_of(data: bytes | memoryview) -> tuple[int, int]:
    """Return width and height as stored; zeros where the boxes do not say."""
    found = boxes.primary(data)
    return found.width, found.height


def check(data: bytes, *, first: bool = False) -> None:
    """Raise BadImage for an AVIF of which pictures after the `first` would be left out, or whose boxes say nothing."""
    found = boxes.primary(data)
    if not found.width or not found.bits:
        raise BadImage("corrupt", "AVIF: its boxes do not describe a picture")
    if not found.one and (frames := _opened_by_pillow(data).n_frames) > 1:
        if not first:
            raise BadImage("several pictures", f"animated AVIF of {frames} frames; give each a file of its own")
        if found.bits > 8:
            raise unsupported(f"animated AVIF of {found.bits} bits a sample")


def pixels(data: bytes, place: raster.Place) -> np.ndarray:
    """Return the pixels of an AVIF as stored, of the type that its boxes say, alpha over white."""
    found, pixel_type = boxes.primary(data), type_of(data)
    if pixel_type is None:
        raise ValueError("its boxes do not describe a picture")
    if not found.one and (image := _opened_by_pillow(data)).n_frames > 1:
        # The other decoder would write all frames into the room of one.
        return raster.array_of(image, place(pixel_type.shape(image.height, image.width), pixel_type.dtype))
    out = place(pixel_type.shape(found.height, found.width), pixel_type.dtype)
    if not found.alpha:
        imagecodecs().avif_decode(data, index=0, numthreads=1, out=out if found.channels > 1 else out[..., 0])
        raster.stretch(out, found.bits)
        return out
    whole = imagecodecs().avif_decode(data, index=0, numthreads=1)
    _opaque(whole.reshape(*whole.shape[:2], -1), out, found.bits)
    return out


def _opened_by_pillow(data: bytes) -> AvifImagePlugin.AvifImageFile:
    return AvifImagePlugin.AvifImageFile(io.BytesIO(data))


def heif_type_of(data: bytes | memoryview) -> PixelType | None:
    """Return the type of the decoded pixels of a HEIF file; None where the boxes do not say."""
    return type_of(data)


def check_heif(data: bytes, *, first: bool = False) -> None:
    """Raise BadImage for a HEIF file where nothing reads it, or where pictures after the `first` would be left out."""
    frames = len(_opened(data))
    if frames > 1 and not first:
        raise BadImage("several pictures", f"HEIF of {frames} pictures; give each a file of its own")


def heif_pixels(data: bytes, place: raster.Place) -> np.ndarray:
    """Return the pixels of a HEIF file, which its library has turned, of the type that its boxes say."""
    pixel_type, image = type_of(data), _opened(data)
    image = image[image.primary_index]
    if pixel_type is None:
        raise ValueError("its boxes do not describe a picture")
    whole = np.asarray(image)
    whole = whole.reshape(*whole.shape[:2], -1)
    bits = boxes.primary(data).bits
    if whole.dtype == np.uint16:  # the library has shifted samples up to 16 bits
        whole = whole >> (16 - bits)
    out = place(pixel_type.shape(*whole.shape[:2]), pixel_type.dtype)
    _opaque(whole, out, bits)
    return out


def _opened(data: bytes) -> Any:
    try:
        import pillow_heif  # imported here: an extra
    except ImportError:
        raise BadImage("unsupported format", _INSTALL) from None
    return pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)


def _opaque(whole: np.ndarray, out: np.ndarray, bits: int) -> None:
    """Fill `out` with the channels that it has, alpha over white where there is one more, or two fewer."""
    if whole.dtype != out.dtype:
        raise unsupported(f"pixels of {whole.dtype} where its boxes say {out.dtype}")
    alpha = whole.shape[2] in (2, 4)
    raster.stretch(whole, bits)
    colours = whole[..., : whole.shape[2] - alpha]
    if colours.shape[2] > out.shape[2]:  # grey that the decoder repeated
        colours = colours[..., :1]
    if alpha:
        raster.blended(colours, whole[..., -1:], out)
    else:
        out[...] = colours
