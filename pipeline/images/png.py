"""PNG: its depth, its frames, and the file without anything that is not part of the image."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

from pipeline.images.blame import BadImage, unsupported

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TRANSPARENCY_BYTES = {0: (2,), 2: (6,), 3: range(1, 257)}
"""Lengths that tRNS may have, by colour type."""


def check(data: bytes) -> None:
    """Raise BadImage where an 8-bit image would leave out a part of the file: depth, or frames."""
    for kind, body in _chunks(data):
        if kind == b"IHDR" and len(body) >= 9 and body[8] > 8:
            raise unsupported(f"PNG of {body[8]} bits a sample (pictures of up to 8 are supported)")
        if kind == b"acTL" and (frames := int.from_bytes(body[:4], "big")) > 1:
            raise BadImage("several pictures", f"animated PNG of {frames} frames; give each a file of its own")
        if kind == b"IDAT":
            return


def bare(data: bytes) -> bytes:
    """Return the file with only its critical chunks and its transparency.

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
    return b"".join([*kept, data[start:]])


def exif(data: bytes) -> bytes | None:
    """Return the body of the first EXIF chunk."""
    return next((body for kind, body in _chunks(data) if kind == b"eXIf"), None)


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
