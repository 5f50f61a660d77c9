"""Pillow's images as arrays, a few rows at a time: each step of a conversion would else hold the whole image again."""

from __future__ import annotations

import mmap

import numpy as np
from PIL import Image

_STRIP_PIXELS = 1 << 20
"""Pixels that are converted at a time, at least one row."""
_LARGE_BYTES = 1 << 24
"""Bytes from which an array has memory of its own kind."""
_LARGE_PIXELS = 1 << 25
"""Pixels from which an image is resized channel by channel, which takes half the memory, and a little more time."""
ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")


def empty(shape: tuple[int, ...]) -> np.ndarray:
    """Return an array of uint8 without content. A large one goes back to the system as soon as nobody has it.

    Processes that compute keep what they free otherwise (`pipeline.cluster.host`), and it lies between what they use.
    """
    size = int(np.prod(shape))
    if size < _LARGE_BYTES:
        return np.empty(shape, np.uint8)
    return np.frombuffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8).reshape(shape)


def resized(
    pixels: np.ndarray, width: int, height: int, resample: Image.Resampling, out: np.ndarray | None = None
) -> np.ndarray:
    """Return pixels of the type RGB at another size, in `out` where it is given."""
    if max(pixels.shape[0] * pixels.shape[1], width * height) < _LARGE_PIXELS:
        return rgb_array(Image.fromarray(pixels).resize((width, height), resample), out)
    out = empty((height, width, 3)) if out is None else out
    for channel in range(3):
        plane = empty(pixels.shape[:2])
        plane[...] = pixels[..., channel]
        out[..., channel] = np.asarray(Image.fromarray(plane).resize((width, height), resample))
    return out


def rgb_array(image: Image.Image, out: np.ndarray | None = None) -> np.ndarray:
    """Return an image's pixels as type RGB, [height, width, 3], alpha composited over white.

    They are in `out`, an array of that shape, where it is given.
    """
    width, height = image.size
    out = empty((height, width, 3)) if out is None else out
    rows = max(1, _STRIP_PIXELS // max(width, 1))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = image if bottom - top == height else image.crop((0, top, width, bottom))
        out[top:bottom] = np.asarray(_to_rgb(strip))
    return out


def over_white(rgba: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return pixels of four channels, the last of them alpha, as type RGB over white, in `out`."""
    rows = max(1, _STRIP_PIXELS // max(rgba.shape[1], 1))
    for top in range(0, len(rgba), rows):
        out[top : top + rows] = np.asarray(_to_rgb(Image.fromarray(rgba[top : top + rows])))
    return out


def has_alpha(image: Image.Image) -> bool:
    """Return True where some of an image's pixels may be transparent."""
    return image.mode in ALPHA_MODES or "transparency" in image.info


def _to_rgb(image: Image.Image) -> Image.Image:
    if has_alpha(image):
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
