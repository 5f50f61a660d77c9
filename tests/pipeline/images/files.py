"""Files of images, put together by hand where no available writer makes such files."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageOps


def picture(height: int = 24, width: int = 40) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 5 % 256, y * 9 % 256, (x + y) * 3 % 256], axis=-1).astype(np.uint8)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, depth: int, colour_type: int, rows: Sequence[bytes], *extra: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of these rows; `extra` chunks come before the pixels."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", header), *extra, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, body) for kind, body in chunks)


Tags = Mapping[int, tuple[str, Sequence[int]]]
"""Mapping from a tag to the struct code of its type and its values."""

_KINDS = {"B": 1, "s": 2, "H": 3, "I": 4, "f": 11}


def tiff(*pages: tuple[np.ndarray, Tags], order: str = "<") -> bytes:
    """Return a TIFF of uncompressed pages [height, width, channels], whose tags override those of a plain image."""
    file = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    pointer = 4
    for pixels, tags in pages:
        height, width, channels = pixels.shape
        at = len(file)
        file += pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        plain: Tags = {
            256: ("I", [width]), 257: ("I", [height]), 258: ("H", [pixels.dtype.itemsize * 8] * channels),
            259: ("H", [1]), 262: ("H", [2 if channels > 2 else 1]), 273: ("I", [at]), 277: ("H", [channels]),
            278: ("I", [height]), 279: ("I", [pixels.nbytes]),
        }  # fmt: skip
        pointer = _directory(file, {**plain, **tags}, order, pointer)
    return bytes(file)


def tiff_of_parts(parts: Sequence[bytes], tags: Tags, *, tiled: bool = False, order: str = "<") -> bytes:
    """Return a TIFF of one page whose strips or tiles are these bytes."""
    file = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    offsets = []
    for part in parts:
        offsets.append(len(file))
        file += part + bytes(len(part) % 2)
    where, sizes = (324, 325) if tiled else (273, 279)
    _directory(file, {where: ("I", offsets), sizes: ("I", [len(part) for part in parts]), **tags}, order, 4)
    return bytes(file)


def drawn(height: int, width: int, channels: int, bits: int) -> np.ndarray:
    """Return pixels of all values, lowest and highest among them."""
    shape, peak = (height, width, channels), 2**bits - 1
    pixels = np.random.default_rng(channels).integers(0, peak, shape, f"uint{bits}", endpoint=True)
    pixels[0, 0], pixels[-1, -1] = 0, peak
    return pixels


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels as Pillow turns a picture of this EXIF orientation: an image of positions says what goes where."""
    positions = Image.fromarray(np.arange(pixels.shape[0] * pixels.shape[1], dtype=np.int32).reshape(pixels.shape[:2]))
    positions.getexif()[0x0112] = orientation
    turned = np.asarray(ImageOps.exif_transpose(positions))
    return pixels.reshape(-1, pixels.shape[2])[turned]


def over_white(pixels: np.ndarray) -> np.ndarray:
    """Return colours over white, given pixels whose last channel is alpha, by the formula itself."""
    peak = float(np.iinfo(pixels.dtype).max)
    alpha = pixels[..., -1:].astype(float) / peak
    return pixels[..., :-1] * alpha + peak * (1 - alpha)


def exif(tags: Tags) -> bytes:
    """Return the body of an EXIF segment."""
    file = bytearray(b"II*\0" + bytes(4))
    _directory(file, tags, "<", 4)
    return bytes(file)


def _directory(file: bytearray, tags: Tags, order: str, pointer: int) -> int:
    """Append a directory to which `pointer` then points, and return the position of its own pointer to the next."""
    entries = b""
    for tag, (code, values) in sorted(tags.items()):
        body = bytes(values) if code == "s" else struct.pack(f"{order}{len(values)}{code}", *values)
        if len(body) > 4:
            where, body = len(file), body
            file += body
            body = struct.pack(f"{order}I", where)
        entries += struct.pack(f"{order}HHI", tag, _KINDS[code], len(values)) + body.ljust(4, b"\0")
    file[pointer : pointer + 4] = struct.pack(f"{order}I", len(file))
    file += struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return len(file) - 4
