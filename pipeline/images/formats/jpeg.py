"""JPEG: header checks, and pixels of every file that other readers read, unless a part of the image is missing."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import simplejpeg

from pipeline.images.basis.blame import OUT_OF_MEMORY, unsupported
from pipeline.images.basis.pixel_type import RGB, PixelType

_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""End of entropy-coded data: a marker that is neither a stuffed byte nor a restart."""
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_LOSSLESS_OR_HIERARCHICAL = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}
_PLAIN_FRAMES = {0xC0, 0xC1, 0xC2}
_JPEG_LS = 0xF7
_SCAN, _END, _EXIF = 0xDA, 0xD9, 0xE1
_APPLICATION = {*range(0xE1, 0xEE), 0xEF, 0xFE}
"""Segments of applications and comments, except those that say how colours are coded (JFIF, Adobe)."""
_XMP = b"http://ns.adobe.com/xap/1.0/\0"

_DAMAGE = re.compile(r"premature end|bad huffman code|bad arithmetic code|found marker", re.IGNORECASE)
"""Warnings of libjpeg after which it has made up a part of the image."""
_STRAY = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
_MOST_STRAY = 16
"""Limit of repairs of stray bytes in one file."""


class _Segment(NamedTuple):
    marker: int
    start: int
    """Position of the 0xff before the marker."""
    end: int
    """Position after its body; for a scan, after its data."""


class Plain(NamedTuple):
    """Header of a JPEG that has nothing unusual in it."""

    width: int
    height: int
    channels: int
    """One or three."""
    exif: bytes
    """Body of its EXIF segment; empty where it has none."""
    xmp: bytes


def plain(data: bytes) -> Plain | None:
    """Return the header of a JPEG of 8 bits and one or three channels; None where it takes a longer look.

    It is gone through once, up to the pixels: small images are decoded in the time of a few such looks.
    """
    at, end, frame, exif, xmp = 2, len(data) - 4, b"", b"", b""
    while at < end and data[at] == 0xFF:
        marker, size = data[at + 1], (data[at + 2] << 8) + data[at + 3]
        if marker == _SCAN:
            break
        if marker < 0xC0 or 0xD0 <= marker <= _END or marker == _JPEG_LS or marker == 0xFF:
            return None
        if marker == _EXIF:
            body = data[at + 4 : at + 2 + size]
            if body.startswith(b"Exif\0\0"):
                if exif:
                    return None
                exif = body
            elif body.startswith(_XMP):
                xmp = xmp or body[len(_XMP) :]
        elif marker in _FRAMES:
            if frame or marker not in _PLAIN_FRAMES:
                return None
            frame = data[at + 4 : at + 2 + size]
        at += 2 + size
    else:
        return None
    if len(frame) < 6 or frame[0] != 8 or frame[5] not in (1, 3):
        return None
    return Plain((frame[3] << 8) + frame[4], (frame[1] << 8) + frame[2], frame[5], exif, xmp)


def check(data: bytes) -> None:
    """Raise BadImage where the header names anything but an 8-bit JPEG of one, three or four channels."""
    for marker, start, end in _segments(data):
        body = data[start + 4 : end]
        if marker == _JPEG_LS:
            raise unsupported("JPEG-LS")
        if marker not in _FRAMES or len(body) < 6:
            continue
        if body[0] != 8:
            raise unsupported(f"JPEG of {body[0]} bits a sample (pictures of 8 are supported)")
        if marker in _LOSSLESS_OR_HIERARCHICAL:
            raise unsupported("lossless or hierarchical JPEG")
        if body[5] not in (1, 3, 4):
            raise unsupported(f"JPEG of {body[5]} channels (1, 3 and 4 are supported)")
        return


def size_of(data: bytes | memoryview) -> tuple[int, int]:
    """Return width and height from the frame header; zeros where there is none before the pixels."""
    frame = _frame(bytes(data))
    return int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big")


def type_of(data: bytes | memoryview) -> PixelType | None:
    """Return the type of the decoded pixels, by the frame header: CMYK becomes RGB. None where it is not decoded."""
    frame = _frame(bytes(data))
    return {1: PixelType(1), 3: RGB, 4: RGB}.get(frame[5]) if len(frame) > 5 and frame[0] == 8 else None


def _frame(data: bytes) -> bytes:
    """Return the body of the frame header: depth, height, width, channels; nothing where there is none."""
    bodies = (data[start + 4 : end] for marker, start, end in _segments(data) if marker in _FRAMES)
    return next((body for body in bodies if len(body) >= 5), b"")


def bare(data: bytes) -> bytes:
    """Return the file without application segments and without stray bytes between segments."""
    return data[:2] + b"".join(data[s.start : s.end] for s in _segments(data) if s.marker not in _APPLICATION)


def exif(data: bytes) -> bytes | None:
    """Return the body of the first EXIF segment before the pixels."""
    before = itertools.takewhile(lambda segment: segment.marker not in _FRAMES, _segments(data))
    bodies = (data[s.start + 4 : s.end] for s in before if s.marker == _EXIF)
    return next((body for body in bodies if body.startswith(b"Exif\0\0")), None)


def decode_plain(data: bytes, out: np.ndarray) -> bool:
    """Decode a JPEG in which nothing is unusual into `out`, uint8 [height, width, 1 or 3]; False where something is."""
    try:
        return bool(simplejpeg.decode_jpeg(data, colorspace=_space(out), buffer=out).shape == out.shape)
    except ValueError:
        return False


def _space(out: np.ndarray | None) -> str:
    return "GRAY" if out is not None and out.shape[2] == 1 else "RGB"


def decode(data: bytes, out: np.ndarray | None = None) -> np.ndarray | None:
    """Decode a grey or three-channel JPEG to RGB, uint8 [height, width, 3]; None where a more lenient decoder must try.

    The pixels are in `out`, of that shape, where it is given; one of a single channel is filled with grey.

    Raises ValueError where a part of the image is missing. Stray bytes between its parts are skipped, as every viewer
    does, up to a hundredth of the file: beyond that, the decoder has lost its position.
    """
    space = _space(out)
    for _ in range(_MOST_STRAY):
        try:
            return simplejpeg.decode_jpeg(data, colorspace=space, fastdct=False, fastupsample=False, buffer=out)
        except ValueError as error:
            if _DAMAGE.search(str(error)) or OUT_OF_MEMORY.search(str(error)):
                raise
            if not any(segment.marker == _END for segment in _segments(data)):
                raise ValueError("Premature end of JPEG file") from error
            mended = _without_stray(data, str(error))
            if mended is None:
                return None
            data = mended
    return None


def _without_stray(data: bytes, complaint: str) -> bytes | None:
    """Return `data` without the stray bytes that libjpeg complains about; None where it complains of something else."""
    found = _STRAY.search(complaint)
    if found is None:
        return None
    count, marker = int(found[1]), int(found[2], 16)
    if count > max(1024, len(data) // 100):
        raise ValueError(complaint)
    segments = list(_segments(data))
    joined = data[:2] + b"".join(data[s.start : s.end] for s in segments)
    if len(joined) < len(data[: segments[-1].end]):
        return joined
    for scan, following in itertools.pairwise(segments):
        if scan.marker == _SCAN and following.marker == marker:
            return data[: scan.end - count] + data[scan.end :]
    return None


def _segments(data: bytes) -> Iterator[_Segment]:
    """Yield the segments up to the end of the image, as far as they exist; bytes between them belong to none."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0:
        while at + 1 < len(data) and data[at + 1] == 0xFF:
            at += 1
        if at + 1 >= len(data):
            return
        marker = data[at + 1]
        if marker == _END:
            yield _Segment(marker, at, at + 2)
            return
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        if at + 4 > len(data):
            return
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _SCAN:
            following = _NEXT_MARKER.search(data, end)
            end = following.start() if following else len(data)
        yield _Segment(marker, at, end)
        at = max(end, at + 2)
