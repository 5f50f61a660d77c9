"""Decision, made here and nowhere else, whether an image is at fault or the machine that decodes it."""

from __future__ import annotations

import re

from PIL import Image

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
OUT_OF_MEMORY = re.compile(r"insufficient memory", re.IGNORECASE)
"""Message of libjpeg when it runs out of memory."""
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
