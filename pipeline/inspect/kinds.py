"""Channels and depth of encoded images, as their header says them: in the file, before anything is converted."""

from __future__ import annotations

import io
import warnings

from PIL import Image

from pipeline import images

UNKNOWN = "not known"
_PNG_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGBA"}
_CHANNELS = {1: "grey", 2: "grey and alpha", 3: "RGB", 4: "4 channels"}
_MODES = {
    "1": "grey of 1 bit", "L": "grey of 8 bits", "LA": "grey and alpha of 8 bits", "P": "palette of 8 bits",
    "PA": "palette and alpha of 8 bits", "RGB": "RGB of 8 bits", "RGBA": "RGBA of 8 bits", "CMYK": "CMYK of 8 bits",
    "YCbCr": "YCbCr of 8 bits", "LAB": "Lab of 8 bits", "I": "grey of 32 bits", "F": "grey of floating point",
}  # fmt: skip
_BITS, _SAMPLES = 258, 277

warnings.filterwarnings("ignore", module=r"PIL\.")  # about harmless oddities


def kind_of(data: bytes) -> str:
    """Return channels and depth of the image that begins with `data` in words, such as `RGB of 8 bits`. Never raises.

    UNKNOWN where the beginning does not say it.
    """
    form = images.format_of(data)
    if form == "PNG" and len(data) > 25:
        return f"{_PNG_COLOURS.get(data[25], 'unknown colours')} of {_bits(data[24])}"
    if form == "JPEG":
        return _jpeg(data)
    if form == "WEBP" and len(data) > 24:
        alpha = (data[12:16] == b"VP8X" and data[20] & 0x10) or (data[12:16] == b"VP8L" and data[24] & 0x10)
        return "RGBA of 8 bits" if alpha else "RGB of 8 bits"
    found = _by_pillow(data) if form else UNKNOWN
    return str(images.type_of(data) or UNKNOWN) if form and found == UNKNOWN else found  # Pillow does not know all


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
    return UNKNOWN


def _by_pillow(data: bytes) -> str:
    try:
        with Image.open(io.BytesIO(data)) as image:
            tags = getattr(image, "tag_v2", None)
            if tags is None:
                return _MODES.get(image.mode, f"mode {image.mode}")
            bits, samples = tags.get(_BITS, (1,)), tags.get(_SAMPLES, 1)
            if image.mode in ("P", "CMYK", "YCbCr", "LAB", "RGBA", "RGB") and max(bits) == 8:
                return _MODES[image.mode]
            return f"{_CHANNELS.get(samples, f'{samples} channels')} of {_bits(max(bits))}"
    except Exception:  # whatever a broken header does to a plugin
        return UNKNOWN
