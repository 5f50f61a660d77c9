"""Scores of an image against its target.

Images are pixels [H, W, C] of one type; both of a pair have one shape.
"""

from collections.abc import Iterable
from math import inf, log10, nan

import numpy as np

from pipeline.images import PixelType


def l1(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean absolute error over pixels and channels, 0 (equal) to 1 (black against white)."""
    return float(np.abs(_difference(a, b)).mean(dtype=np.float64) / PixelType.of(a).peak)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in decibels over all pixels and channels; infinite for equal images."""
    mean_square = float(np.square(_difference(a, b)).mean(dtype=np.float64))
    return inf if mean_square == 0 else 10 * log10(PixelType.of(a).peak ** 2 / mean_square)


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Return the structural similarity, at most 1; nan for images of fewer than 11 pixels a side.

    Wang et al. 2004, with a Gaussian window of 11×11, on RGB.
    """
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    if min(a.shape[:2]) < 11:
        return nan
    peak = float(PixelType.of(a).peak)
    one, other = (torch.tensor(each).permute(2, 0, 1)[None].double() for each in (a, b))
    return float(structural_similarity_index_measure(one, other, data_range=peak))  # type: ignore[arg-type]


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a - b in int64, which can hold its square, too."""
    if a.shape != b.shape:
        raise ValueError(f"pictures of shapes {a.shape} and {b.shape} cannot be compared: resize one to the other")
    if PixelType.of(a) != PixelType.of(b):
        raise ValueError(f"{PixelType.of(a)} and {PixelType.of(b)} cannot be compared: convert one to the other")
    if a.size == 0:
        raise ValueError(f"pictures of shapes {a.shape} and {b.shape} have no pixels to compare")
    return a.astype(np.int64) - b


def mean_image(images: Iterable[np.ndarray]) -> np.ndarray:
    """Return the mean of images of one shape, rounded, of their type; holds one sum, however many there are."""
    total, count, dtype = np.zeros(()), 0, np.dtype(np.uint8)
    for image in images:
        if count and image.shape != total.shape:
            raise ValueError(f"a picture of shape {image.shape} cannot join a mean of shape {total.shape}")
        total, dtype = total + image.astype(np.float64), image.dtype
        count += 1
    if count == 0:
        raise ValueError("there is no mean of no pictures")
    return np.rint(total / count).astype(dtype)
