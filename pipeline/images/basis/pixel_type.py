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

    @property
    def numbers(self) -> str:
        """Return the type in words that name both numbers, such as 3 channels of 8 bits."""
        return f"{self.channels} channel{'s' * (self.channels != 1)} of {self.bits} bits"

    def becomes(self, wanted: PixelType) -> bool:
        """Return True where pixels of this type can be given as `wanted`: the same, or grey as RGB of its depth."""
        return self == wanted or (self.channels, wanted.channels, self.bits) == (1, 3, wanted.bits)

    def __str__(self) -> str:
        name = {1: "grey", 3: "RGB"}.get(self.channels, f"{self.channels} channels")
        return f"{name} of {self.bits} bits"


RGB = PixelType(3)
"""Type of the pictures that a model takes and gives unless it says otherwise: three channels of 8 bits."""
