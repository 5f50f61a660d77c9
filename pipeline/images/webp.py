"""WebP, decoded straight into its place: Pillow's decoder is that of animations, and holds the image five times."""

from __future__ import annotations

import numpy as np

from pipeline.images import raster


def decode(data: bytes, out: np.ndarray, *, alpha: bool) -> np.ndarray:
    """Decode a still image to RGB, alpha over white, in `out`, uint8 [height, width, 3].

    Raises RuntimeError where a part of the image is missing or damaged.
    """
    import imagecodecs  # imported here: it takes a moment, and few stores hold WebP

    if not alpha:
        return imagecodecs.webp_decode(data, out=out)
    return raster.over_white(imagecodecs.webp_decode(data), out)
