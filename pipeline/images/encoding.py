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

from pipeline.images.basis import raster
from pipeline.images.basis.codecs import imagecodecs
from pipeline.images.basis.pixel_type import RGB, PixelType
from pipeline.images.formats import tiff_writing
from pipeline.images.options import Encoding

GREY, GREY_16, RGB_16 = PixelType(1), PixelType(1, 16), PixelType(3, 16)


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
    most_bytes: int = 2**62
    """Most bytes of pixels that a file holds."""

    @property
    def held(self) -> str:
        """Return the types in words."""
        if len(self.pixel_types) > 8:
            return f"1 to {max(each.channels for each in self.pixel_types)} channels of 8 or 16 bits"
        return " or ".join(each.numbers for each in self.pixel_types)


def _jpeg(pixels: np.ndarray, encoding: Encoding) -> bytes:
    rows = np.ascontiguousarray(pixels)
    if pixels.shape[2] == 1:
        return bytes(simplejpeg.encode_jpeg(rows, quality=encoding.quality, colorspace="GRAY"))
    return bytes(simplejpeg.encode_jpeg(rows, quality=encoding.quality, colorspace="RGB", colorsubsampling="420"))


def _png(pixels: np.ndarray, encoding: Encoding) -> bytes:
    # Level 1 takes a fifth of the default's time for a tenth more bytes.
    if pixels.dtype == np.uint8:
        return _by_pillow(pixels, "PNG", compress_level=1)
    rows = np.ascontiguousarray(_flat(pixels))
    # Where it has to guess the room, it guesses too little for narrow pictures of noise.
    room = rows.nbytes + rows.nbytes // 4 + 16 * pixels.shape[0] + 4096
    return bytes(imagecodecs().png_encode(rows, level=1, out=room))


def _by_pillow(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_flat(pixels)).save(buffer, kind, **options)
    return buffer.getvalue()


def _flat(pixels: np.ndarray) -> np.ndarray:
    """Return pixels of one channel as [height, width], which is how libraries want grey."""
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


CODECS: dict[str, Codec] = {
    "jpeg": Codec(extension="jpg", most_a_side=65_500, write=_jpeg, pixel_types=(RGB, GREY)),
    "png": Codec(extension="png", most_a_side=2**31 - 1, write=_png, pixel_types=(RGB, GREY, RGB_16, GREY_16)),
    "webp": Codec(
        extension="webp",
        most_a_side=16_383,
        write=lambda pixels, _: _by_pillow(pixels, "WEBP", lossless=True, method=0),
    ),
    "webp_lossy": Codec(
        extension="webp",
        most_a_side=16_383,
        write=lambda pixels, encoding: _by_pillow(pixels, "WEBP", quality=encoding.quality),
    ),
    "tiff": Codec(
        extension="tif",
        most_a_side=2**31 - 1,
        write=lambda pixels, _: tiff_writing.write(pixels),
        pixel_types=tuple(PixelType(channels, bits) for channels in range(1, 257) for bits in (8, 16)),
        most_bytes=tiff_writing.MOST_BYTES,
    ),
    # One thread: what a picture is cut into depends on their number, and so do the bytes. Speed 8 takes a third of the
    # time of the default, 6, for a thirtieth more bytes.
    "avif": Codec(
        extension="avif",
        most_a_side=32_768,
        write=lambda pixels, encoding: _by_pillow(pixels, "AVIF", quality=encoding.quality, speed=8, max_threads=1),
        pixel_types=(RGB, GREY),
    ),
}
_MOST_A_SIDE_OF_WIDE_PNG = 1_000_000
"""Limit of libpng, by default, on both ways of a PNG of 16 bits."""


def encode(pixels: np.ndarray, encoding: Encoding) -> bytes:
    """Encode pixels [height, width, channels] as a file, which the pixels and the options alone determine.

    Raises ValueError where the codec cannot write their type.
    """
    codec, found = CODECS[encoding.codec], PixelType.of(pixels)
    if found not in codec.pixel_types:
        raise ValueError(f"{encoding.codec} takes {codec.held}, not {found.numbers}")
    return codec.write(pixels, encoding)


def misfit(width: int, height: int, codec: str, pixel_type: PixelType = RGB) -> str | None:
    """Return the reason why `codec` cannot write an image of this size and type, or None where it can."""
    entry = CODECS[codec]
    if pixel_type not in entry.pixel_types:
        return f"{codec} holds {entry.held}, this picture has {pixel_type.numbers}"
    most = entry.most_a_side
    if codec == "png" and pixel_type.bits > 8:
        most = _MOST_A_SIDE_OF_WIDE_PNG
    if max(width, height) > most:
        return f"{codec} holds at most {most} pixels a side, this picture has {width} × {height}"
    if width * height * pixel_type.bytes > entry.most_bytes:
        return f"{codec} holds at most {entry.most_bytes} bytes, this picture has {width} × {height} pixels"
    return None


def resize(pixels: np.ndarray, width: int, height: int, out: np.ndarray | None = None) -> np.ndarray:
    """Resize pixels of any type by antialiased bicubic interpolation, ignoring the aspect ratio.

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
