"""Pillow's images as arrays, a few rows at a time: each step of a conversion would else hold the whole image again."""

from __future__ import annotations

import numpy as np
from PIL import Image

_STRIP_PIXELS = 1 << 20
"""Pixels that are converted at a time, at least one row."""
_ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")


def rgb_array(image: Image.Image, out: np.ndarray | None = None) -> np.ndarray:
    """Return an image's pixels as type RGB, [height, width, 3], alpha composited over white.

    They are in `out`, an array of that shape, where it is given.
    """
    width, height = image.size
    out = np.empty((height, width, 3), np.uint8) if out is None else out
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
    return image.mode in _ALPHA_MODES or "transparency" in image.info


def _to_rgb(image: Image.Image) -> Image.Image:
    if has_alpha(image):
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
