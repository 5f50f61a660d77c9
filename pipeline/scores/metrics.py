"""Scores of an image against its target.

Images are uint8 arrays [H, W, C]; both of a pair have one shape.
"""

from collections.abc import Iterable
from math import inf, log10, nan

import numpy as np
import torch

PEAK = 255.0
"""Largest value of a channel."""


def l1(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean absolute error over pixels and channels, 0 (equal) to 1 (black against white)."""
    return float(np.abs(_difference(a, b)).mean(dtype=np.float64) / PEAK)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in decibels over all pixels and channels; infinite for equal images."""
    mean_square = float(np.square(_difference(a, b)).mean(dtype=np.float64))
    return inf if mean_square == 0 else 10 * log10(PEAK**2 / mean_square)


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Return the structural similarity, at most 1; nan for images of fewer than 11 pixels a side.

    Wang et al. 2004, with a Gaussian window of 11×11, on RGB.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    if min(a.shape[:2]) < 11:
        return nan
    one, other = (torch.tensor(each).permute(2, 0, 1)[None].double() for each in (a, b))
    return float(structural_similarity_index_measure(one, other, data_range=PEAK))  # type: ignore[arg-type]


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a - b in int32, which can hold its square, too."""
    if a.shape != b.shape:
        raise ValueError(f"pictures of shapes {a.shape} and {b.shape} cannot be compared: resize one to the other")
    if a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(f"pictures of types {a.dtype} and {b.dtype} cannot be compared: both must be uint8")
    if a.size == 0:
        raise ValueError(f"pictures of shapes {a.shape} and {b.shape} have no pixels to compare")
    return a.astype(np.int32) - b


def mean_image(images: Iterable[np.ndarray]) -> np.ndarray:
    """Return the mean of images of one shape, rounded to uint8; holds one sum, however many there are."""
    total, count = np.zeros(()), 0
    for image in images:
        if count and image.shape != total.shape:
            raise ValueError(f"a picture of shape {image.shape} cannot join a mean of shape {total.shape}")
        total = total + image.astype(np.float64)
        count += 1
    if count == 0:
        raise ValueError("there is no mean of no pictures")
    return np.rint(total / count).astype(np.uint8)
