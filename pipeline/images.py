"""Bytes become arrays and arrays become bytes; what is wrong with an image is found here, and named.

Policy, where a file holds more than an 8-bit RGB picture: palettes are expanded; CMYK and YCbCr are converted; grey is
repeated into three channels; alpha is composited over white; an ICC profile is ignored (values are taken as sRGB);
the first frame of an animation is taken; EXIF orientation is applied, and reported. 16-bit and floating-point
pictures are refused with a reason. Limits are checked against the header, before a pixel is decoded.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import PIL
import simplejpeg
from PIL import Image, UnidentifiedImageError

from pipeline.errors import UserError

EXTENSIONS = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".webp", ".tif", ".tiff", ".bmp",
)  # fmt: skip
"""Names of files in a format that `decode` knows."""
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
MAX_PIXELS = 178_956_970
"""An image of more pixels is refused, from its header: 3 bytes a pixel make this 512 MB. Pillow's own limit."""

Codec = Literal["jpeg", "png", "webp"]
CODEC_EXTENSION: dict[Codec, str] = {"jpeg": "jpg", "png": "png", "webp": "webp"}

_EXIF_ORIENTATION = 0x0112
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "La", "CMYK", "YCbCr", "LAB", "HSV")
_JPEG_MODES = ("L", "RGB")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")


class BadImage(Exception):  # noqa: N818 - a finding about the input, not an error of the program
    """These bytes cannot be used as an image. `reason` is one of a few words, the message says more."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Decoded(NamedTuple):
    """A picture and what its file said of itself."""

    pixels: np.ndarray
    """uint8 [height, width, 3], RGB, after orientation."""
    orientation: int
    """The EXIF orientation that was applied, 1 (none) to 8."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How pixels become bytes. Part of a job's fingerprint, as it decides the bytes."""

    codec: Codec = "jpeg"
    quality: int = 95
    """JPEG quality, 1 to 100; PNG and WebP are written without loss."""

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise UserError(f"quality {self.quality} is not between 1 and 100")


def decode(data: bytes | memoryview, *, max_pixels: int = MAX_PIXELS) -> Decoded:
    """The picture in `data`. Raises BadImage with its reason: empty, not an image, too large, truncated or corrupt,
    or unsupported mode."""
    if len(data) == 0:
        raise BadImage("empty", "the file has no bytes")
    with _open(data) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise BadImage("too large", f"{width} × {height} pixels are more than {max_pixels}")
        if image.mode not in _EIGHT_BIT_MODES:
            raise BadImage("unsupported mode", f"{image.format} of mode {image.mode} (8-bit pictures are supported)")
        try:
            orientation = int(image.getexif().get(_EXIF_ORIENTATION, 1))
        except Exception as error:
            raise BadImage("corrupt", _message(error, "EXIF")) from error
        if orientation not in range(1, 9):
            orientation = 1
        try:
            if image.format == "JPEG" and image.mode in _JPEG_MODES:
                pixels = simplejpeg.decode_jpeg(data, colorspace="RGB", fastdct=False, fastupsample=False)
                return Decoded(_oriented(pixels, orientation), orientation)
            rgb = _to_rgb(image)
            return Decoded(_oriented(np.asarray(rgb), orientation), orientation)
        except Exception as error:  # every decoder has errors of its own; each means that this image is bad
            raise BadImage("corrupt", _message(error, image.format or "image")) from error


def encode(pixels: np.ndarray, encoding: Encoding) -> bytes:
    """uint8 [height, width, 3] RGB as a file. Raises ValueError for any other array."""
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
        # Level 1 costs a fifth of the default's time for a tenth more bytes.
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    else:
        Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, method=0)
    return buffer.getvalue()


def resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Bicubic, with antialiasing, ignoring the aspect. uint8 [height, width, 3]."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def codec_versions() -> dict[str, str]:
    """The libraries that decide which pixels come out of a file and which bytes go into one."""
    return {"pillow": PIL.__version__, "simplejpeg": simplejpeg.__version__}


def _open(data: bytes | memoryview) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise BadImage(
            "not an image", f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} header in {len(data)} bytes"
        ) from None
    except Image.DecompressionBombError as error:
        raise BadImage("too large", str(error)) from None
    except Exception as error:  # a header that a plugin chokes on
        raise BadImage("corrupt", _message(error, "header")) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _oriented(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """EXIF 2.3, tag 274: the stored rows and columns, turned and mirrored as the camera says."""
    match orientation:
        case 2:
            pixels = pixels[:, ::-1]
        case 3:
            pixels = pixels[::-1, ::-1]
        case 4:
            pixels = pixels[::-1]
        case 5:
            pixels = pixels.transpose(1, 0, 2)
        case 6:
            pixels = np.rot90(pixels, -1)
        case 7:
            pixels = pixels.transpose(1, 0, 2)[::-1, ::-1]
        case 8:
            pixels = np.rot90(pixels)
    return np.ascontiguousarray(pixels)


def _message(error: Exception, what: str) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{what}: {_ADDRESS.sub('0x…', text)}"[:300]
