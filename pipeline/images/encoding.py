"""Encoding of arrays into bytes, and resizing."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
import PIL
import simplejpeg
from PIL import Image

from pipeline.errors import check_range

Codec = Literal["jpeg", "png", "webp"]
CODEC_EXTENSION: dict[Codec, str] = {"jpeg": "jpg", "png": "png", "webp": "webp"}
_MOST_PIXELS_A_SIDE: dict[Codec, int] = {"jpeg": 65_500, "png": 2**31 - 1, "webp": 16_383}


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Encoding of pixels into bytes. Part of a job's fingerprint, since it determines the bytes."""

    codec: Codec = "jpeg"
    quality: int = 95
    """JPEG quality, 1 to 100; PNG and WebP are written without loss."""

    def __post_init__(self) -> None:
        check_range("quality", self.quality, least=1, most=100)


def encode(pixels: np.ndarray, encoding: Encoding) -> bytes:
    """Encode RGB values, uint8 [height, width, 3], as a file. Raises ValueError for any other array."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"expected uint8 [height, width, 3], got {pixels.dtype} {list(pixels.shape)}")
    if encoding.codec == "jpeg":
        return bytes(
            simplejpeg.encode_jpeg(
                np.ascontiguousarray(pixels), quality=encoding.quality, colorspace="RGB", colorsubsampling="420"
            )
        )
    buffer = io.BytesIO()
    if encoding.codec == "png":
        # Level 1 takes a fifth of the default's time for a tenth more bytes.
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    else:
        Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, method=0)
    return buffer.getvalue()


def misfit(width: int, height: int, codec: Codec) -> str | None:
    """Return the reason why `codec` cannot write an image of this size, or None where it can."""
    most = _MOST_PIXELS_A_SIDE[codec]
    if max(width, height) <= most:
        return None
    return f"{codec} holds at most {most} pixels a side, this picture has {width} × {height}"


def resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize uint8 [height, width, 3] by antialiased bicubic interpolation, ignoring the aspect ratio."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def codec_versions() -> dict[str, str]:
    """Return the versions of the libraries that determine decoded pixels and encoded bytes."""
    return {"pillow": PIL.__version__, "simplejpeg": simplejpeg.__version__}
