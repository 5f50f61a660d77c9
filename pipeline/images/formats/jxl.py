"""JPEG XL: what its header says (ISO/IEC 18181-1, annexes D and E), and its pixels by libjxl."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.images.basis import raster
from pipeline.images.basis.blame import BadImage, unsupported
from pipeline.images.basis.codecs import imagecodecs
from pipeline.images.basis.pixel_type import PixelType

CODESTREAM = b"\xff\x0a"
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_ALPHA = 0


class Header(NamedTuple):
    """What the header says."""

    width: int
    height: int
    orientation: int
    bits: int
    """Bits of a sample; more than 16, or floating-point numbers, are 32."""
    srgb: bool
    """True where colours are said to be plain sRGB."""
    channels: int
    """Channels of colour: 1 or 3."""
    alpha: bool
    multiplied: bool
    further: int
    """Channels that are neither colour nor alpha."""
    animated: bool


class _Bits:
    """Numbers in a stream of bits, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._number, self._size, self._at = int.from_bytes(data, "little"), 8 * len(data), 0

    def take(self, count: int) -> int:
        """Return the next number of so many bits. Raises ValueError after the end."""
        if self._at + count > self._size:
            raise ValueError("the header ends early")
        self._at += count
        return self._number >> (self._at - count) & (1 << count) - 1

    def one_of(self, *choices: tuple[int, int]) -> int:
        """Return a number in one of four forms, which two bits choose: an offset, and bits that are added to it."""
        offset, count = choices[self.take(2)]
        return offset + self.take(count)


def header(data: bytes | memoryview) -> Header | None:
    """Return what the header says; None where it is broken, or of a rare kind. Never raises; some 400 bytes suffice."""
    try:
        return _header(_Bits(_codestream(bytes(data[:4096]))[2:258]))
    except ValueError:
        return None


def size_of(data: bytes | memoryview) -> tuple[int, int]:
    """Return width and height as stored; zeros where the header does not say."""
    try:
        return _size(_Bits(_codestream(bytes(data[:4096]))[2:258]))
    except ValueError:
        return 0, 0


def type_of(data: bytes | memoryview) -> PixelType | None:
    """Return the type of the decoded pixels; None where the header does not say."""
    found = header(data)
    if found is None or found.bits > 16 or found.further:
        return None
    return PixelType(found.channels, 8 if found.bits <= 8 else 16)


def check(data: bytes, *, first: bool = False) -> None:
    """Raise BadImage for what would be left out: frames after the `first`, further channels, exact values."""
    found = header(data)
    if found is None:
        raise BadImage("corrupt", "JPEG XL: its header is broken, or of a kind that is not supported")
    if found.bits > 16:
        raise unsupported("JPEG XL of floating-point numbers, or of more than 16 bits a sample")
    if found.further:
        raise unsupported(f"JPEG XL of {found.further} channels that are neither colour nor alpha")
    if found.animated and not first:
        raise BadImage("several pictures", "animated JPEG XL; give each frame a file of its own")


def pixels(data: bytes, place: raster.Place) -> np.ndarray:
    """Return pixels as stored, of the type that the header says, alpha over white."""
    found, pixel_type = header(data), type_of(data)
    if found is None or pixel_type is None:
        raise ValueError("its header does not describe an image")
    out = place(pixel_type.shape(found.height, found.width), pixel_type.dtype)
    whole = raster.empty((*out.shape[:2], found.channels + 1), out.dtype) if found.alpha else out
    whole[...] = 0  # a file without a frame ends as if it had been decoded
    target = whole if whole.shape[2] > 1 else whole[..., 0]
    imagecodecs().jpegxl_decode(data, index=0, keeporientation=True, numthreads=1, out=target)
    raster.stretch(whole, found.bits)
    if found.alpha:
        raster.blended(whole[..., :-1], whole[..., -1:], out, multiplied=found.multiplied)
    return out


def _codestream(data: bytes) -> bytes:
    """Return the codestream, from its signature on, as far as it is in the data. Raises ValueError for none."""
    at = 0
    while not data.startswith(CODESTREAM):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if len(kind) < 4:
            raise ValueError("no codestream")
        if kind in (b"jxlc", b"jxlp"):
            data, at = data[at + (8 if size != 1 else 16) + (4 if kind == b"jxlp" else 0) :], 0
            if not data.startswith(CODESTREAM):
                raise ValueError("no codestream")
            break
        if size < 8:
            raise ValueError("no codestream")
        at += size
    return data


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)

    def side() -> int:
        return 8 * (1 + bits.take(5)) if small else bits.one_of((1, 9), (1, 13), (1, 18), (1, 30))

    height, ratio = side(), bits.take(3)
    if not ratio:
        return side(), height
    across, down = _RATIOS[ratio]
    return height * across // down, height


def _header(bits: _Bits) -> Header:
    width, height = _size(bits)
    if bits.take(1):  # all as it is by default
        return Header(width, height, 1, 8, True, 3, False, False, 0, False)
    orientation, animated = 1, False
    if bits.take(1):
        orientation = 1 + bits.take(3)
        if bits.take(1):
            _size(bits)  # the size that is intended for display
        if bits.take(1):
            raise ValueError("a preview")
        animated = bool(bits.take(1))
        if animated:
            bits.one_of((100, 0), (1000, 0), (1, 10), (1, 30))
            bits.one_of((1, 0), (1001, 0), (1, 8), (1, 10))
            bits.one_of((0, 0), (0, 3), (0, 16), (0, 32))
            bits.take(1)
    depth = _depth(bits)
    bits.take(1)  # whether 16 bits suffice inside the decoder
    alpha, multiplied, further = False, False, 0
    for _ in range(bits.one_of((0, 0), (1, 0), (2, 4), (1, 12))):
        kind, by_alpha = _extra_channel(bits)
        if kind == _ALPHA and not alpha:
            alpha, multiplied = True, by_alpha
        else:
            further += 1
    bits.take(1)  # whether colours are stored as XYB
    channels, srgb = 3, bool(bits.take(1))
    if not srgb:
        bits.take(1)  # whether there is a profile
        channels = 1 if bits.one_of((0, 0), (1, 0), (2, 4), (18, 6)) == 1 else 3
    return Header(width, height, orientation, depth, srgb, channels, alpha, multiplied, further, animated)


def _depth(bits: _Bits) -> int:
    """Return the bits of a sample: 32 for floating-point numbers."""
    if not bits.take(1):
        return bits.one_of((8, 0), (10, 0), (12, 0), (1, 6))
    bits.one_of((32, 0), (16, 0), (24, 0), (1, 6))
    bits.take(4)
    return 32


def _extra_channel(bits: _Bits) -> tuple[int, bool]:
    """Return the kind of a further channel, and whether colours are multiplied with it."""
    if bits.take(1):
        return _ALPHA, False
    kind = bits.one_of((0, 0), (1, 0), (2, 4), (18, 6))
    _depth(bits)
    bits.one_of((0, 0), (3, 0), (4, 0), (1, 3))
    for _ in range(bits.one_of((0, 0), (0, 4), (16, 5), (48, 10))):
        bits.take(8)  # a letter of its name
    if kind == _ALPHA:
        return kind, bool(bits.take(1))
    raise ValueError("a channel of a rare kind")
