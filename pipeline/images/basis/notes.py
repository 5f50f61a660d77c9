"""Words about what a decoder has passed over or converted, the same for all images, so that they can be counted."""

from __future__ import annotations

from PIL import ImageFile

NO_EXIF = "its EXIF cannot be read"
OTHER_COLOURS = "its colours are not those of sRGB, and are not converted"
IGNORED_PROFILE = "its ICC profile is ignored, which does not name sRGB"
OF_INK = "its CMYK is converted to RGB"
OF_LAB = "its Lab colours are converted to RGB"
OVER_WHITE = "its alpha, or transparent colour, is composited over white"
FIRST = "the first of its pictures is taken"

_SRGB = (b"sRGB", "sRGB".encode("utf-16-be"))


def of_profile(profile: object) -> tuple[str, ...]:
    """Return the note on a profile that is ignored; none where it says that colours are those of sRGB, or is none."""
    if not isinstance(profile, bytes) or not profile or any(name in profile for name in _SRGB):
        return ()
    return (IGNORED_PROFILE,)


def of_frames(image: ImageFile.ImageFile) -> tuple[str, ...]:
    """Return the note on a file of which the first frame was decoded; none where nothing follows it."""
    try:
        return (FIRST,) if getattr(image, "is_animated", False) else ()
    except Exception:  # what follows is broken, and so it is there
        return (FIRST,)


def of_mode(mode: str, *, alpha: bool) -> tuple[str, ...]:
    """Return the notes on an image of this mode of Pillow, with an `alpha` or a transparent colour, or without."""
    found = {"CMYK": (OF_INK,), "LAB": (OF_LAB,)}.get(mode, ())
    return (*found, OVER_WHITE) if alpha else found
