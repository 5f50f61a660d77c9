"""Conversion of pixels to generator inputs and back, as in the published test scripts, and padding to a valid size."""

import torch
from torch import Tensor


def from_pixels(pixels: Tensor) -> Tensor:
    """Convert unsigned integers, 0 to the largest of their type, to fp32 in [-1, 1], in any shape."""
    return pixels.float().div(torch.iinfo(pixels.dtype).max).sub(0.5).div(0.5)


def to_pixels(values: Tensor, dtype: torch.dtype = torch.uint8) -> Tensor:
    """Convert [-1, 1] to unsigned integers, truncated rather than rounded, like the published results."""
    peak = torch.iinfo(dtype).max
    return values.float().add(1).div(2).mul(peak).clamp(0, peak).to(dtype)


def padded_size(size: tuple[int, int], multiple: int, least: int) -> tuple[int, int]:
    """Return height and width, in pixels, that an image of this size has after `pad_by_reflection`."""
    height, width = (max(-(-side // multiple) * multiple, least) for side in size)
    return height, width


def pad_by_reflection(images_NCHW: Tensor, multiple: int, least: int = 1) -> Tensor:
    """Pad images at the right and the bottom to the next multiple, by mirroring as often as needed.

    Both sides grow to at least `least`, which is itself such a multiple, or 1.
    """
    height, width = images_NCHW.shape[2:]
    padded = padded_size((height, width), multiple, least)
    rows, columns = (mirrored(*sides, images_NCHW.device) for sides in zip((height, width), padded, strict=True))
    return images_NCHW[:, :, rows[:, None], columns]


def mirrored(size: int, padded: int, device: torch.device | None = None) -> Tensor:
    """Return the indices 0 … size − 1 and more, `padded` in all, which go back and forth without repeating the edge."""
    period = max(1, 2 * (size - 1))
    phase = torch.arange(padded, device=device) % period
    return torch.minimum(phase, period - phase) if size > 1 else torch.zeros_like(phase)
