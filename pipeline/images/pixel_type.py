"""Type of a picture's pixels: channels, bits, and the values that they hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PixelType:
    """Type of the pixels of an array [height, width, channels]: whole numbers from 0 to `peak`.

    Whoever makes or takes pixels asks here; the networks see 0 to `peak` as -1 to 1.
    """

    channels: int
    bits: int = 8
    """Bits of a channel: 8 or 16."""

    @classmethod
    def of(cls, pixels: np.ndarray) -> PixelType:
        """Return the type of an array. Raises ValueError for one that holds no pixels of any type."""
        if pixels.ndim != 3 or pixels.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"no pixels of 8 or 16 bits [height, width, channels]: {pixels.dtype} {pixels.shape}")
        return cls(pixels.shape[2], 8 * pixels.dtype.itemsize)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(f"uint{self.bits}")

    @property
    def peak(self) -> int:
        """Return the largest value, which is full intensity."""
        return 2**self.bits - 1

    @property
    def bytes(self) -> int:
        """Return the bytes that a pixel takes."""
        return self.channels * self.bits // 8

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return the shape of an array of so many pixels."""
        return height, width, self.channels

    def __str__(self) -> str:
        name = {1: "grey", 3: "RGB"}.get(self.channels, f"{self.channels} channels")
        return f"{name} of {self.bits} bits"


RGB = PixelType(3)
"""Type of every picture that is decoded, and so of every picture that a job trains on, translates and writes."""
