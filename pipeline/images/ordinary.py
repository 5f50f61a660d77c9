"""Ordinary JPEGs, as nearly all images are: decoded, or proved to be decodable, with a single look at their header.

Whatever is unusual in one is left to `decoding`, which takes ten times as long to look at all that a file may say, and
also says what is at fault.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.images.basis import notes
from pipeline.images.basis.pixel_type import RGB, PixelType
from pipeline.images.formats import jpeg
from pipeline.images.formats.metadata import advised


class Ordinary(NamedTuple):
    """JPEG in whose header nothing is unusual."""

    shape: tuple[int, int, int]
    """Height, width and channels of its pixels as they are stored, and as they are wanted."""
    orientation: int
    """EXIF orientation, 1 (none) to 8."""
    notes: tuple[str, ...]


def ordinary_jpeg(data: bytes, wanted: PixelType | None, max_pixels: int) -> Ordinary | None:
    """Return what an ordinary JPEG says, which becomes pixels of a `wanted` type or of its own; None for any other."""
    header = jpeg.plain(data)
    if header is None or header.width * header.height > max_pixels:
        return None
    own = RGB if header.channels == 3 else PixelType(header.channels)
    target = wanted or own
    if not own.becomes(target):
        return None
    said = advised(header.exif, lambda: header.xmp.decode("latin-1"))
    shape = target.shape(header.height, header.width)
    return Ordinary(shape, said.orientation, (*said.notes, *notes.of_profile(header.profile)))
