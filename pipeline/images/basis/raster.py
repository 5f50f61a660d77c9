"""Pillow's images and arrays of pixels, a few rows at a time: each step of a conversion would else hold the whole image
again.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

_STRIP_PIXELS = 1 << 20
"""Pixels that are converted at a time, at least one row."""
_LARGE_BYTES = 1 << 24
"""Bytes from which an array has memory of its own kind."""
_LARGE_PIXELS = 1 << 25
"""Pixels from which an image is resized channel by channel, which takes half the memory, and a little more time."""
ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")
GREY_MODES = ("1", "L", "LA", "La")

Place = Callable[[tuple[int, int, int], np.dtype], np.ndarray]
"""Memory for the pixels of an image, given their shape and the type of their numbers."""
Convert = Callable[[Image.Image], Image.Image]
"""Conversion of the colours of a part of an image, alpha kept."""


def empty(shape: tuple[int, ...], dtype: np.dtype | type = np.uint8) -> np.ndarray:
    """Return an array without content. A large one goes back to the system as soon as nobody has it.

    Processes that compute keep what they free otherwise (`pipeline.cluster.host`), and it lies between what they use.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < _LARGE_BYTES:
        return np.empty(shape, dtype)
    return np.frombuffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype).reshape(shape)


def placed(room: np.ndarray | None, shape: tuple[int, ...], dtype: np.dtype | type = np.uint8) -> np.ndarray:
    """Return an array: the beginning of `room`, uint8 [N], where it suffices and is aligned, else memory of its own."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if room is None or len(room) < size or room.ctypes.data % np.dtype(dtype).itemsize:
        return empty(shape, dtype)
    return room[:size].view(dtype).reshape(shape)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return a view of the stored rows and columns, turned and mirrored as the camera says (EXIF 2.3, tag 274)."""
    match orientation:
        case 2:
            return pixels[:, ::-1]
        case 3:
            return pixels[::-1, ::-1]
        case 4:
            return pixels[::-1]
        case 5:
            return pixels.transpose(1, 0, 2)
        case 6:
            return np.rot90(pixels, -1)
        case 7:
            return pixels.transpose(1, 0, 2)[::-1, ::-1]
        case 8:
            return np.rot90(pixels)
    return pixels


def shown(pixels: np.ndarray) -> np.ndarray:
    """Return pixels [..., channels] of any type as they are shown to people, uint8 [..., 3].

    Of more than three channels these are the first three, of two the first; of 16 bits the upper eight.
    """
    channels = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    if channels.shape[-1] == 3:
        return channels
    return channels[..., :3] if channels.shape[-1] > 3 else np.repeat(channels[..., :1], 3, axis=-1)


def resized(
    pixels: np.ndarray, width: int, height: int, resample: Image.Resampling, out: np.ndarray | None = None
) -> np.ndarray:
    """Return pixels of any type at another size, in `out` where it is given; those of 8 bits in integers."""
    small = max(pixels.shape[0] * pixels.shape[1], width * height) < _LARGE_PIXELS
    if small and pixels.shape[2] == 3 and pixels.dtype == np.uint8:
        return array_of(Image.fromarray(pixels).resize((width, height), resample), out)
    out = empty((height, width, pixels.shape[2]), pixels.dtype) if out is None else out
    wide = pixels.dtype == np.uint16
    for channel in range(pixels.shape[2]):
        plane = empty(pixels.shape[:2], np.float32 if wide else np.uint8)
        plane[...] = pixels[..., channel]
        made = np.asarray(Image.fromarray(plane).resize((width, height), resample))
        out[..., channel] = np.clip(np.rint(made), 0, 65535) if wide else made
    return out


def array_of(image: Image.Image, out: np.ndarray | None = None, convert: Convert | None = None) -> np.ndarray:
    """Return an image's pixels, alpha composited over white: as RGB, or as grey where `out` has one channel.

    They are in `out`, [height, width, 1 or 3], where it is given. `convert` is applied before.
    """
    width, height = image.size
    out = empty((height, width, 3)) if out is None else out
    for top, bottom in strips(height, width):
        strip = image if bottom - top == height else image.crop((0, top, width, bottom))
        out[top:bottom] = _opaque(strip, out.shape[2], convert)
    return out


def over_white(pixels: np.ndarray, out: np.ndarray, convert: Convert | None = None) -> np.ndarray:
    """Return pixels of 8 bits whose last channel of two or four is alpha over white, in `out` of one or three."""
    for top, bottom in strips(*pixels.shape[:2]):
        out[top:bottom] = _opaque(_image_of(pixels[top:bottom]), out.shape[2], convert)
    return out


def converted(pixels: np.ndarray, convert: Convert) -> None:
    """Convert the colours of pixels of 8 bits in place."""
    for top, bottom in strips(*pixels.shape[:2]):
        pixels[top:bottom] = _opaque(_image_of(pixels[top:bottom]), pixels.shape[2], convert)


def blended(colours: np.ndarray, alpha: np.ndarray, out: np.ndarray, *, multiplied: bool = False) -> None:
    """Composite colours [height, width, channels] over white with alpha [height, width, 1], all of 8 or of 16 bits.

    Where they are `multiplied` with their alpha already, only the white is added.
    """
    peak = np.uint32(np.iinfo(colours.dtype).max)
    for top, bottom in strips(*colours.shape[:2]):
        a, c = alpha[top:bottom].astype(np.uint32), colours[top:bottom].astype(np.uint32)
        through = np.minimum(c, a) if multiplied else (c * a + peak // 2) // peak
        out[top:bottom] = through + (peak - a)


def stretch(pixels: np.ndarray, bits: int) -> None:
    """Make samples of so many bits samples of the 8 or 16 bits that they are stored in, in place: peak remains peak."""
    stored = 8 * pixels.dtype.itemsize
    if bits == stored:
        return
    peak, full = np.uint32(2**bits - 1), np.uint32(2**stored - 1)
    for top, bottom in strips(*pixels.shape[:2]):
        pixels[top:bottom] = (pixels[top:bottom].astype(np.uint32) * full + peak // 2) // peak


def strips(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield the first row, and the one after the last, of each part of an image that is converted at once."""
    rows = max(1, _STRIP_PIXELS // max(width, 1))
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def has_alpha(image: Image.Image) -> bool:
    """Return True where some of an image's pixels may be transparent."""
    return image.mode in ALPHA_MODES or "transparency" in image.info


def _image_of(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _opaque(strip: Image.Image, channels: int, convert: Convert | None) -> np.ndarray:
    """Return a part of an image as an array of one or three channels, alpha composited over white."""
    if channels == 1 and convert is None and not has_alpha(strip):
        return np.asarray(strip.convert("L"))[..., None]
    return np.asarray(_to_rgb(convert(strip) if convert else strip))[..., :channels]


def _to_rgb(image: Image.Image) -> Image.Image:
    if has_alpha(image):
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
