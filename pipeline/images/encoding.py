"""Encoding of arrays into bytes, and resizing."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import PIL
import simplejpeg
from PIL import Image

from pipeline.images import raster
from pipeline.images.options import Encoding
from pipeline.images.pixel_type import RGB, PixelType


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A way to write images. A further codec is an entry of CODECS, and its name in `CodecName`."""

    extension: str
    """Ending of its files, without the dot."""
    most_a_side: int
    """Largest width and height that it can write, in pixels."""
    write: Callable[[np.ndarray, Encoding], bytes]
    """From pixels to a file; the same pixels give the same bytes."""
    pixel_types: tuple[PixelType, ...] = (RGB,)
    """Types of pixels that it can write."""


def _jpeg(pixels: np.ndarray, encoding: Encoding) -> bytes:
    rows = np.ascontiguousarray(pixels)
    return bytes(simplejpeg.encode_jpeg(rows, quality=encoding.quality, colorspace="RGB", colorsubsampling="420"))


def _by_pillow(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


CODECS: dict[str, Codec] = {
    "jpeg": Codec(extension="jpg", most_a_side=65_500, write=_jpeg),
    # Level 1 takes a fifth of the default's time for a tenth more bytes.
    "png": Codec(
        extension="png", most_a_side=2**31 - 1, write=lambda pixels, _: _by_pillow(pixels, "PNG", compress_level=1)
    ),
    "webp": Codec(
        extension="webp",
        most_a_side=16_383,
        write=lambda pixels, _: _by_pillow(pixels, "WEBP", lossless=True, method=0),
    ),
}


def encode(pixels: np.ndarray, encoding: Encoding) -> bytes:
    """Encode pixels [height, width, channels] as a file. Raises ValueError where the codec cannot write their type."""
    codec, found = CODECS[encoding.codec], PixelType.of(pixels)
    if found not in codec.pixel_types:
        raise ValueError(f"{encoding.codec} takes {' or '.join(map(str, codec.pixel_types))}, not {found}")
    return codec.write(pixels, encoding)


def misfit(width: int, height: int, codec: str) -> str | None:
    """Return the reason why `codec` cannot write an image of this size, or None where it can."""
    most = CODECS[codec].most_a_side
    if max(width, height) <= most:
        return None
    return f"{codec} holds at most {most} pixels a side, this picture has {width} × {height}"


def resize(pixels: np.ndarray, width: int, height: int, out: np.ndarray | None = None) -> np.ndarray:
    """Resize pixels of the type RGB by antialiased bicubic interpolation, ignoring the aspect ratio.

    They are in `out`, of their new shape, where it is given.
    """
    if pixels.shape[:2] == (height, width):
        if out is None:
            return pixels
        out[...] = pixels
        return out
    return raster.resized(pixels, width, height, Image.Resampling.BICUBIC, out)


def codec_versions() -> dict[str, str]:
    """Return the versions of the libraries that determine decoded pixels and encoded bytes."""
    return {"pillow": PIL.__version__, "simplejpeg": simplejpeg.__version__, "imagecodecs": version("imagecodecs")}
