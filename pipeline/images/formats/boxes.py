"""AVIF and HEIF: what the boxes of an ISO base media file say about its primary picture (ISO/IEC 23008-12)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

_MOST_BOXES = 10_000
_TURNS = {0: 1, 1: 8, 2: 3, 3: 6}
"""EXIF orientation by the number of quarter turns to the left."""
_MIRRORED = {(1, 0): 4, (1, 1): 2, (3, 0): 2, (3, 1): 4, (6, 0): 7, (6, 1): 5, (8, 0): 5, (8, 1): 7}
"""EXIF orientation by that of the turn and the axis: 0 swaps top and bottom, 1 left and right."""

_PRIMARIES = (1, 2)
"""Primaries of colours (ITU-T H.273) that are those of sRGB, or are not said."""


class Primary(NamedTuple):
    """What is said about the primary picture."""

    width: int
    height: int
    """Pixels as stored; zeros where nothing says it."""
    bits: int
    """Bits of a sample; 0 where nothing says it."""
    channels: int
    """Channels of colour: 1 or 3; 0 where nothing says it."""
    alpha: bool
    """False where no picture of the file is said to be an alpha channel."""
    orientation: int
    """EXIF orientation that its turn and its mirror stand for."""
    profile: bytes | None
    other_colours: bool
    """True where its colours are said to be those of another space than sRGB, without a profile."""
    one: bool
    """True where the first brand says that there is one picture; another file may hold a sequence."""


_NOTHING = Primary(0, 0, 0, 0, False, 1, None, False, False)


def primary(data: bytes | memoryview) -> Primary:
    """Return what is said about the primary picture. Never raises: what is broken is not said."""
    try:
        return _primary(bytes(data))
    except (struct.error, IndexError):
        return _NOTHING


def _primary(data: bytes) -> Primary:
    top = dict(_boxes(data))
    brands = top.get(b"ftyp", b"")
    meta = dict(_boxes(top.get(b"meta", b"")[4:]))
    properties = dict(_boxes(meta.get(b"iprp", b"")))
    held = list(_boxes(properties.get(b"ipco", b"")))
    pitm = meta.get(b"pitm", b"")
    item = int.from_bytes(pitm[4 : 8 if pitm[:1] == b"\1" else 6], "big")
    bodies: dict[bytes, bytes] = {}
    belongs = dict(_associations(properties.get(b"ipma", b"")))
    for index in belongs.get(item, ()):
        if 0 < index <= len(held):
            bodies.setdefault(*held[index - 1])
    width, height = struct.unpack_from(">II", bodies[b"ispe"], 4) if b"ispe" in bodies else (0, 0)
    bits, channels = _samples(bodies)
    if not bits:  # a picture made of tiles: the first one in the list says how all are coded
        bits, channels = _samples(dict(reversed(held)))
    colour = bodies.get(b"colr", b"")
    return Primary(
        width=width,
        height=height,
        bits=bits,
        channels=channels,
        alpha=any(kind == b"auxC" and b"alpha" in body for kind, body in held),
        orientation=_orientation(bodies),
        other_colours=colour[:4] == b"nclx" and int.from_bytes(colour[4:6], "big") not in _PRIMARIES,
        profile=colour[4:] if colour[:4] in (b"prof", b"rICC") else None,
        one=brands[:4] == b"avif",
    )


def _samples(bodies: dict[bytes, bytes]) -> tuple[int, int]:
    """Return bits and channels of colour, by the codec's configuration or the list of channels."""
    if b"av1C" in bodies:
        flags = bodies[b"av1C"][2]
        bits = 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
        return bits, 1 if flags & 0x10 else 3
    if b"hvcC" in bodies:
        body = bodies[b"hvcC"]
        return 8 + (body[17] & 7), 1 if body[16] & 3 == 0 else 3
    if b"pixi" in bodies and len(bodies[b"pixi"]) > 5:
        body = bodies[b"pixi"]
        return max(body[5 : 5 + body[4]]), 1 if body[4] == 1 else 3
    return 0, 0


def _orientation(bodies: dict[bytes, bytes]) -> int:
    turn = _TURNS[bodies[b"irot"][0] & 3] if b"irot" in bodies else 1
    if b"imir" not in bodies:
        return turn
    return _MIRRORED[turn, bodies[b"imir"][0] & 1]


def _associations(body: bytes) -> Iterator[tuple[int, list[int]]]:
    """Yield the number of each item and the positions of its properties, counted from 1."""
    if len(body) < 8:
        return
    version, wide = body[0], body[3] & 1
    at = 8
    for _ in range(min(int.from_bytes(body[4:8], "big"), _MOST_BOXES)):
        size = 4 if version else 2
        item = int.from_bytes(body[at : at + size], "big")
        at += size
        count = body[at]
        at += 1
        if wide:
            numbers = [int.from_bytes(body[i : i + 2], "big") & 0x7FFF for i in range(at, at + 2 * count, 2)]
        else:
            numbers = [number & 0x7F for number in body[at : at + count]]
        at += count * (2 if wide else 1)
        yield item, numbers


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and body of the boxes, up to the first that is not there whole."""
    at = 0
    for _ in range(_MOST_BOXES):
        if at + 8 > len(data):
            return
        size, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        size = size or len(data) - at
        if size < head:
            return
        if kind == b"mdat" or at + size > len(data):  # pixels are not copied
            yield kind, b""
        else:
            yield kind, data[at + head : at + size]
        at += size
