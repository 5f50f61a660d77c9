"""Pictures of a page: small WebP files inside it."""

from __future__ import annotations

import io
from base64 import b64encode

import numpy as np
from PIL import Image

from pipeline.images.basis import raster

SIDE = 320
"""Pixels of the longer side of a picture on a page, at most."""
QUALITY = 82
"""Quality of WebP, 1 to 100."""


def small(picture: np.ndarray) -> np.ndarray:
    """Return a picture, uint8 or uint16 [H, W] or [H, W, C], as a page shows it: uint8 [h, w, 3], no larger than SIDE.

    Of more than three channels the first three are shown, of two the first.
    """
    pixels = raster.shown(picture if picture.ndim == 3 else picture[..., None])
    scale = SIDE / max(pixels.shape[:2])
    if scale >= 1:
        return np.ascontiguousarray(pixels)
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return raster.resized(np.ascontiguousarray(pixels), width, height, Image.Resampling.LANCZOS)


def data_url(picture: np.ndarray) -> str:
    """Return a picture, uint8 [H, W, 3], as the URL of a WebP file, made small first."""
    buffer = io.BytesIO()
    # A few pixels that are shown enlarged would show every artefact.
    tiny = max(picture.shape[:2]) <= 64
    Image.fromarray(small(picture)).save(buffer, "WEBP", quality=QUALITY, method=4, lossless=tiny)
    return f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode('ascii')}"
