"""TIFF of any number of channels of 8 or 16 bits, without a date or a program's name: pixels alone make its bytes.

Strips are compressed without loss: horizontal differences, then Deflate. One channel is grey, three are RGB; of any
other number, the first is grey and the others are said to be no alpha.
"""

from __future__ import annotations

import struct

import numpy as np

from pipeline.images.basis.codecs import imagecodecs

MOST_BYTES = 2**32 - 2**25
"""Most bytes of pixels: positions in a file have 32 bits, and what cannot be compressed grows a little."""
_STRIP_BYTES = 1 << 18
"""Bytes of a strip before compression, at least one row."""
_SHORT, _LONG = 3, 4
_UNSPECIFIED = 0


def write(pixels: np.ndarray) -> bytes:
    """Return a TIFF of pixels [height, width, channels], uint8 or uint16."""
    height, width, channels = pixels.shape
    bits = 8 * pixels.dtype.itemsize
    rows = max(1, _STRIP_BYTES // max(1, width * channels * pixels.dtype.itemsize))
    file, offsets, sizes = bytearray(b"II*\0" + bytes(4)), list[int](), list[int]()
    for top in range(0, height, rows):
        strip = np.ascontiguousarray(pixels[top : top + rows], pixels.dtype.newbyteorder("<"))
        body = imagecodecs().deflate_encode(imagecodecs().delta_encode(strip, axis=1).tobytes(), level=1)
        offsets.append(len(file))
        sizes.append(len(body))
        file += body
        file += bytes(len(file) % 2)
    tags: dict[int, tuple[int, list[int]]] = {
        256: (_LONG, [width]),
        257: (_LONG, [height]),
        258: (_SHORT, [bits] * channels),
        259: (_SHORT, [8]),  # Deflate
        262: (_SHORT, [2 if channels == 3 else 1]),
        273: (_LONG, offsets),
        277: (_SHORT, [channels]),
        278: (_LONG, [rows]),
        279: (_LONG, sizes),
        284: (_SHORT, [1]),  # all channels of a pixel together
        317: (_SHORT, [2]),  # horizontal differences
    }
    if channels not in (1, 3):
        tags[338] = (_SHORT, [_UNSPECIFIED] * (channels - 1))
    _append_directory(file, tags)
    return bytes(file)


def _append_directory(file: bytearray, tags: dict[int, tuple[int, list[int]]]) -> None:
    """Append a directory with these tags, to which the head of the file then points."""
    entries = b""
    for tag, (kind, values) in sorted(tags.items()):
        body = struct.pack(f"<{len(values)}{'H' if kind == _SHORT else 'I'}", *values)
        if len(body) > 4:
            where = len(file)
            file += body
            file += bytes(len(file) % 2)
            body = struct.pack("<I", where)
        entries += struct.pack("<HHI", tag, kind, len(values)) + body.ljust(4, b"\0")
    file[4:8] = struct.pack("<I", len(file))
    file += struct.pack("<H", len(tags)) + entries + bytes(4)
