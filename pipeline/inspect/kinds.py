"""Channels and depth of encoded images, as their header says them: in the file, before anything is converted."""

from __future__ import annotations

from pipeline import images
from pipeline.images.formats import tiff

UNKNOWN = "not known"
_PNG_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGBA"}
_CHANNELS = {1: "grey", 2: "grey and alpha", 3: "RGB", 4: "4 channels"}
_TIFF_COLOURS = {3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab"}
_NO_IMAGE = f"{UNKNOWN}: no image"


def kind_of(data: bytes) -> str:
    """Return channels and depth of the image that begins with `data` in words, such as `RGB of 8 bits`. Never raises.

    UNKNOWN, with the reason, where the beginning does not say it.
    """
    form = images.format_of(data)
    if form is None:
        return _NO_IMAGE
    return _said_by(form, data) or str(images.type_of(data) or f"{UNKNOWN}: the {form} header does not say it")


def _said_by(form: str, data: bytes) -> str:
    """Return what a header says of colours that decoding converts; empty where it says no more than the type does."""
    if form == "PNG" and len(data) > 25:
        return f"{_PNG_COLOURS.get(data[25], 'unknown colours')} of {_bits(data[24])}"
    if form == "JPEG":
        return _jpeg(data)
    if form == "WEBP" and len(data) > 24:
        alpha = (data[12:16] == b"VP8X" and data[20] & 0x10) or (data[12:16] == b"VP8L" and data[24] & 0x10)
        return "RGBA of 8 bits" if alpha else "RGB of 8 bits"
    if form == "TIFF":
        return _tiff(data)
    if form == "GIF" and len(data) > 10:
        return f"palette of {_bits((data[10] & 7) + 1)}"
    if form == "BMP" and len(data) > 29:
        depth = int.from_bytes(data[24:26] if data[14] == 12 else data[28:30], "little")
        return f"palette of {_bits(depth)}" if 0 < depth <= 8 else ""
    return ""


def _bits(bits: int) -> str:
    return f"{bits} bit{'s' * (bits != 1)}"


def _jpeg(data: bytes) -> str:
    """Return what the frame header of a JPEG says; segments before it are passed."""
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            colours = {**_CHANNELS, 4: "CMYK"}.get(data[at + 9], f"{data[at + 9]} channels")
            return f"{colours} of {_bits(data[at + 4])}"
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return ""


def _tiff(data: bytes) -> str:
    found = tiff.samples(data)
    if found is None:
        return ""
    further = found.channels - found.base
    alpha = " and alpha" if found.alpha is not None and further == 1 else f" and {further} more" if further else ""
    colours = _TIFF_COLOURS.get(found.photometric, _CHANNELS.get(found.base, f"{found.base} channels"))
    return f"{colours}{alpha} of {_bits(found.bits)}".replace("RGB and alpha", "RGBA")
