"""Scores of an image against its target, and their summary over a whole store.

Images are uint8 arrays [H, W, C]; the two of a pair have the same shape.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, isfinite, log10

import numpy as np

PEAK = 255.0
"""Largest value of a channel."""


@dataclass(frozen=True, kw_only=True)
class PairScore:
    """Closeness of one image to its target."""

    key: str
    l1: float
    """Mean absolute error, 0 (equal) to 1."""
    psnr: float
    """Peak signal-to-noise ratio in decibels; infinite where the images are equal."""


def score(key: str, picture: np.ndarray, target: np.ndarray) -> PairScore:
    """Return all scores of one pair."""
    return PairScore(key=key, l1=l1(picture, target), psnr=psnr(picture, target))


def l1(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean absolute error over pixels and channels, 0 (equal) to 1 (black against white)."""
    return float(np.abs(_difference(a, b)).mean(dtype=np.float64) / PEAK)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in decibels over all pixels and channels; infinite for equal images."""
    mean_square = float(np.square(_difference(a, b)).mean(dtype=np.float64))
    return inf if mean_square == 0 else 10 * log10(PEAK**2 / mean_square)


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


def summarise(scores: Sequence[PairScore]) -> dict[str, float]:
    """Return the number of pairs, and the mean and median of each score; only `pairs` where there are no scores.

    PSNR is averaged in decibels, image by image. Its mean is over the finite values, and infinite only where all images
    equal their targets; its median takes infinity as the largest value. `equal` counts the infinite values.
    """
    if not scores:
        return {"pairs": 0.0}
    l1s = np.array([score.l1 for score in scores])
    psnrs = np.array([score.psnr for score in scores])
    finite = psnrs[np.isfinite(psnrs)]
    return {
        "pairs": float(len(scores)),
        "equal": float(len(psnrs) - len(finite)),
        "l1_mean": float(l1s.mean()),
        "l1_median": float(np.median(l1s)),
        "psnr_mean": float(finite.mean()) if len(finite) else inf,
        "psnr_median": _median_with_infinity(psnrs),
    }


def _median_with_infinity(values: np.ndarray) -> float:
    """Return the median; numpy's own is nan where it must average two infinities."""
    low, high = np.sort(values)[[(len(values) - 1) // 2, len(values) // 2]]
    return float((low + high) / 2) if isfinite(high) else float(high)
