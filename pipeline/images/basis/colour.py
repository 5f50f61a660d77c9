"""Conversion of colours by an ICC profile to sRGB, by LittleCMS."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

from pipeline.images.basis import raster
from pipeline.images.basis.codecs import imagecodecs

_EXACT = 0x100
"""Flag of LittleCMS: each pixel is computed, where a table of colours may be wrong by a twentieth in the shadows."""
_MODES = {"RGB ": ("RGB", "RGBA"), "GRAY": ("L", "LA"), "CMYK": ("CMYK",)}
"""Modes of images whose colours a profile of a colour space describes."""


def to_srgb(profile: bytes, mode: str) -> raster.Convert | None:
    """Return the conversion of 8-bit images of a mode to sRGB; None where the profile is broken or for another mode.

    Perceptual intent, as in Pillow. Grey stays neutral, and comes out as RGB.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if not any(mode in modes for space, modes in _MODES.items() if space == source.profile.xcolor_space):
            return None
        base = mode.removesuffix("A")
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), base, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None

    def convert(strip: Image.Image) -> Image.Image:
        if strip.mode == "P":
            strip = strip.convert("RGBA" if "transparency" in strip.info else "RGB")
        if not raster.has_alpha(strip):
            return transform.apply(strip.convert(base))
        strip = strip.convert(f"{base}A")
        colours = transform.apply(strip.convert(base))
        colours.putalpha(strip.getchannel("A"))
        return colours

    return convert


def wide_to_srgb(profile: bytes, channels: int) -> Callable[[np.ndarray], None] | None:
    """Return the conversion of pixels of 16 bits of one or three channels to sRGB, in place; None as above."""
    if to_srgb(profile, {1: "L", 3: "RGB"}.get(channels, "")) is None:
        return None
    target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    space = {1: "gray", 3: "rgb"}[channels]

    def convert(pixels: np.ndarray) -> None:
        """Raise CmsError for a profile that only Pillow takes."""
        for top, bottom in raster.strips(*pixels.shape[:2]):
            strip = np.ascontiguousarray(pixels[top:bottom] if channels == 3 else pixels[top:bottom, :, 0])
            made = imagecodecs().cms_transform(
                strip, profile, target, colorspace=space, outcolorspace="rgb", flags=_EXACT
            )
            pixels[top:bottom] = made[..., :channels]

    return convert
