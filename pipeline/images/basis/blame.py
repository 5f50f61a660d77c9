"""Decision, made here and nowhere else, whether an image is at fault or the machine that decodes it."""

from __future__ import annotations

import re

from PIL import Image

from pipeline.images.basis.pixel_type import PixelType

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
OUT_OF_MEMORY = re.compile(r"insufficient memory|out of memory", re.IGNORECASE)
"""Messages of libjpeg and libavif when they run out of memory."""
MAX_PIXELS = 178_956_970
"""Limit of pixels, checked in the header: 512 MB at 3 bytes a pixel. Pillow has the same limit."""
_UNSUPPORTED = re.compile(r"unsupported|not (yet )?supported|cannot handle|unknown pixel mode", re.IGNORECASE)


class BadImage(Exception):  # noqa: N818 - a finding about the input, not an error of the program
    """Finding that these bytes cannot be used as an image. `reason` is one of a few phrases; the message says more.

    Both depend on the bytes alone: the same bytes give the same words in every process.
    """

    def __init__(self, reason: str, message: str, pixels: int = 0) -> None:
        super().__init__(message)
        self.reason = reason
        self.pixels = pixels
        """Number of pixels that the header promises, where it was read."""


def unsupported(message: str) -> BadImage:
    """Return the finding that a sound file holds an image that cannot be taken without loss."""
    return BadImage("unsupported mode", message)


def mismatch(kind: str, found: PixelType, wanted: PixelType) -> BadImage:
    """Return the finding that a sound file of some format holds pixels of another type than is wanted."""
    return BadImage("unsupported type", f"{kind} has {found.numbers}, and {wanted.numbers} are wanted")


def check_size(kind: str, width: int, height: int, most: int, pixel_type: PixelType | None = None) -> None:
    """Raise BadImage for more than `most` pixels, or for more bytes than so many pixels of RGB of 16 bits take."""
    if width * height > most:
        raise BadImage("too large", f"{kind}: {width} × {height} pixels are more than {most}")
    if pixel_type is not None and width * height * pixel_type.bytes > 6 * most:
        message = f"{kind}: {width} × {height} pixels of {pixel_type.numbers} take more than {6 * most} bytes"
        raise BadImage("too large", message)


def finding(error: Exception, what: str, pixels: int = 0) -> BadImage:
    """Return the finding that a decoder's `error` about `what` stands for.

    Raises the error itself, or MemoryError, where the machine is at fault: no memory, a failing disk or library.
    Decoders give their own OSErrors no number; one with a number comes from the operating system.
    """
    if isinstance(error, MemoryError | ImportError) or (isinstance(error, OSError) and error.errno is not None):
        raise error
    text = _ADDRESS.sub("0x…", " ".join(str(error).split())) or type(error).__name__
    if OUT_OF_MEMORY.search(text):
        raise MemoryError(f"{what}: {text}") from error
    if isinstance(error, Image.DecompressionBombError):
        return BadImage("too large", text)
    message = f"{what}: {text}"[:300]
    return BadImage("unsupported mode" if _UNSUPPORTED.search(text) else "corrupt", message, pixels)


def prove_room(data_bytes: int, pixels: int) -> None:
    """Raise MemoryError where there is no room for decoding.

    A decoder that runs out of memory may report only broken data, so it is not believed before this check.
    """
    bytearray(12 * pixels + 4 * data_bytes + 32_000_000)
