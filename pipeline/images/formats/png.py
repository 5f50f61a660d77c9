"""PNG: its type, its frames, its texts, pixels of 16 bits, and the file without anything that is not the image."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from pipeline.images.basis import raster
from pipeline.images.basis.blame import BadImage
from pipeline.images.basis.codecs import imagecodecs
from pipeline.images.basis.pixel_type import PixelType

END = b"\0\0\0\0IEND\xaeB`\x82"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TRANSPARENCY_BYTES = {0: (2,), 2: (6,), 3: range(1, 257)}
"""Lengths that tRNS may have, by colour type."""
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}
"""Number of channels by colour type, palettes expanded, without alpha."""
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_MOST_TEXT = 1 << 20
"""Limit of the bytes of a text or a profile, which may be a bomb."""


def check(data: bytes, *, first: bool = False) -> None:
    """Raise BadImage where a part of the file would be left out: frames after the `first`, unless only that is wanted.

    The first picture of an animation is the one that readers show that know nothing of animations.
    """
    for i, (kind, body) in enumerate(_chunks(data)):
        if kind == b"IHDR" and i > 0 and body[8:9] > b"\x08":
            raise BadImage("corrupt", f"PNG of {body[8]} bits a sample, whose header is not its first part")
        if not first and kind == b"acTL" and (frames := int.from_bytes(body[:4], "big")) > 1:
            raise BadImage("several pictures", f"animated PNG of {frames} frames; give each a file of its own")
        if kind == b"IDAT":
            return


def type_of(data: bytes | memoryview) -> PixelType | None:
    """Return the type of the decoded pixels, by the header; None where it names none that exists."""
    head = bytes(data[:26])
    if len(head) < 26 or head[12:16] != b"IHDR" or head[24] not in _DEPTHS.get(head[25], ()):
        return None
    return PixelType(_CHANNELS[head[25]], max(8, head[24]))


def has_alpha(data: bytes) -> bool:
    """Return True where the pixels of a PNG have an alpha, or a transparent colour."""
    return data[25:26] in (b"\4", b"\6") or any(kind == b"tRNS" for kind, _ in _chunks(data))


def wide(data: bytes, place: raster.Place) -> np.ndarray:
    """Return the pixels of a PNG of 16 bits, as its `type_of` says, alpha and a transparent colour over white."""
    found = type_of(data)
    height, width = int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    assert found is not None
    # Reading behind its end, the decoder would take what it has read before once more, and texts may be bombs.
    data = bare(data, whole=True) + END
    opaque = not has_alpha(data)
    out = place(found.shape(height, width), found.dtype)
    if opaque:
        imagecodecs().png_decode(data, out=out if found.channels > 1 else out[..., 0])
        return out
    whole = raster.empty((height, width, found.channels + 1), found.dtype)
    imagecodecs().png_decode(data, out=whole)
    raster.blended(whole[..., :-1], whole[..., -1:], out)
    return out


def bare(data: bytes, *, whole: bool = False) -> bytes:
    """Return the file with only its critical chunks and its transparency; without one that is cut, where `whole`.

    Texts, profiles and the like do not affect the pixels, and may be damaged or larger than a decoder accepts.
    """
    kept, start, colour_type = [SIGNATURE], len(SIGNATURE), None
    for kind, body in _chunks(data):
        end = start + 12 + len(body)
        if kind == b"IHDR" and len(body) >= 10:
            colour_type = body[9]
        transparency = kind == b"tRNS" and len(body) in _TRANSPARENCY_BYTES.get(colour_type or 0, ())
        if not kind[0] & 0x20 or transparency:  # a lower-case first letter marks a dispensable chunk
            kept.append(data[start:end])
        start = end
    return b"".join(kept if whole else [*kept, data[start:]])


def exif(data: bytes) -> bytes | None:
    """Return the body of the first EXIF chunk, or of the text in which older programs keep EXIF."""
    for kind, body in _chunks(data):
        if kind == b"eXIf":
            return body
        if kind in (b"zTXt", b"tEXt") and body.startswith(b"Raw profile type exif\0"):
            text = body[22:] if kind == b"tEXt" else _inflated(body[23:])
            # A line break, a name, a length, and the bytes as hexadecimal digits in lines.
            try:
                return bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))
            except ValueError:
                return None
    return None


def xmp(data: bytes) -> bytes | None:
    """Return the text in which XMP is kept."""
    for kind, body in _chunks(data):
        if kind == b"iTXt" and body.startswith(b"XML:com.adobe.xmp\0") and len(body) > 20:
            text = body[20:].split(b"\0", 2)[-1]  # behind a language and a translated keyword
            return _inflated(text) if body[18] else text
    return None


def profile(data: bytes) -> bytes | None:
    """Return the ICC profile; nothing where it is broken, and None where there is none."""
    found = next((body for kind, body in _chunks(data) if kind == b"iCCP"), None)
    return None if found is None else _inflated(found.partition(b"\0")[2][1:])


def _inflated(body: bytes) -> bytes:
    """Return the content of a compressed text; nothing where it is broken or longer than any that is needed."""
    try:
        inflate = zlib.decompressobj()
        text = inflate.decompress(body, _MOST_TEXT)
    except zlib.error:
        return b""
    return text if inflate.eof else b""


def set_transparency(image: Image.Image, data: bytes) -> None:
    """Convert the one transparent grey or colour from the file's depth to that of the pixels."""
    transparent = image.info.get("transparency")
    depth = data[24]
    if image.mode == "L" and isinstance(transparent, int):
        image.info["transparency"] = (transparent & (2**depth - 1)) * 255 // (2**depth - 1)
    elif image.mode == "RGB" and isinstance(transparent, tuple):
        image.info["transparency"] = tuple(value & 0xFF for value in transparent)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and body of every complete chunk, up to the end of the image."""
    start = len(SIGNATURE)
    while start + 12 <= len(data):
        length = int.from_bytes(data[start : start + 4], "big")
        kind = data[start + 4 : start + 8]
        if start + 12 + length > len(data):
            return
        yield kind, data[start + 8 : start + 8 + length]
        if kind == b"IEND":
            return
        start += 12 + length
