"""Scores of an image against its target.

Images are pixels [H, W, C] of one type; both of a pair have one shape. They are compared some rows at a time, so that
large ones take little more memory than themselves.
"""

from collections.abc import Iterable, Iterator
from math import inf, log10, nan

import numpy as np

from pipeline.images import PixelType

_STRIP_VALUES = 1 << 20
"""Values, of the two images each, that are compared at once."""
_WINDOW, _SIGMA = 11, 1.5
"""Side of SSIM's window and the deviation of its Gaussian, in pixels."""


def l1(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean absolute error over pixels and channels, 0 (equal) to 1 (black against white)."""
    _check(a, b)
    total = sum(int(np.abs(one - other).sum()) for one, other in _strips(a, b, np.int64))
    return total / a.size / PixelType.of(a).peak


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in decibels over all pixels and channels; infinite for equal images."""
    _check(a, b)
    total = sum(int(np.square(one - other).sum()) for one, other in _strips(a, b, np.int64))
    return inf if total == 0 else 10 * log10(PixelType.of(a).peak ** 2 / (total / a.size))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Return the structural similarity, at most 1; nan for images of fewer than 11 pixels a side.

    Wang et al. 2004, with a Gaussian window of 11×11 around each pixel of each channel, in float64; what lies outside
    the image is mirrored. It is torchmetrics' value without its cost, since the window is taken along the columns and
    then along the rows, of some rows at a time.
    """
    _check(a, b)
    if min(a.shape[:2]) < _WINDOW:
        return nan
    return _similarity(a, b, PixelType.of(a).peak)[0]


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Return the multi-scale structural similarity, at most 1; nan for images of fewer than 176 pixels a side.

    Wang et al. 2003, with the published weights of the five scales: contrast and structure at each, and the luminance
    of the last one. Each scale is the mean of 2×2 pixels of the one before. It is torchmetrics' value, some rows at a
    time.
    """
    _check(a, b)
    if min(a.shape[:2]) // 2 ** (len(_SCALES) - 1) < _WINDOW:
        return nan
    peak, product = PixelType.of(a).peak, 1.0
    for i, weight in enumerate(_SCALES):
        if i:
            a, b = _halved(a), _halved(b)
        whole, contrast = _similarity(a, b, peak)
        product *= max(whole if i + 1 == len(_SCALES) else contrast, 0.0) ** weight
    return product


_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the scales of MS-SSIM, the finest first."""


def _halved(values_HWC: np.ndarray) -> np.ndarray:
    height, width = (side // 2 * 2 for side in values_HWC.shape[:2])
    corners = (values_HWC[i:height:2, j:width:2].astype(np.float64) for i in range(2) for j in range(2))
    return np.asarray(sum(corners)) / 4


def _similarity(a: np.ndarray, b: np.ndarray, peak: int) -> tuple[float, float]:
    """Return SSIM, and the part of it that is contrast and structure, as means over pixels and channels.

    The latter is, as in torchmetrics, of those pixels alone around which the whole window is within the image.
    """
    one, two = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    total, of_contrast, row, (height, width, channels) = 0.0, 0.0, 0, a.shape
    aside = _WINDOW // 2
    a, b = (np.pad(each, ((aside, aside), (aside, aside), (0, 0)), "reflect") for each in (a, b))
    for x, y in _strips(a, b, np.float64, overlap=2 * aside):
        mean_x, mean_y, square_x, square_y, product = (_smoothed(each) for each in (x, y, x * x, y * y, x * y))
        means, mean_x, mean_y = mean_x * mean_y, mean_x * mean_x, mean_y * mean_y
        variances = np.maximum(square_x - mean_x, 0) + np.maximum(square_y - mean_y, 0)
        contrast = (2 * (product - means) + two) / (variances + two)
        inside = slice(max(aside - row, 0), max(height - aside - row, 0))
        of_contrast += float(contrast[inside, aside : width - aside].sum())
        row += len(contrast)
        contrast *= (2 * means + one) / (mean_x + mean_y + one)
        total += float(contrast.sum())
    within = max(height - 2 * aside, 0) * max(width - 2 * aside, 0) * channels
    return total / (height * width * channels), of_contrast / within if within else nan


def _smoothed(values_HWC: np.ndarray) -> np.ndarray:
    """Return means by the window, wherever it lies inside of the values: [H - 10, W - 10, C]."""
    weights = np.exp(-np.square((np.arange(_WINDOW) - _WINDOW // 2) / _SIGMA) / 2)
    weights /= weights.sum()
    height, width = (side - _WINDOW + 1 for side in values_HWC.shape[:2])
    rows = sum(weight * values_HWC[i : i + height] for i, weight in enumerate(weights))
    return np.asarray(sum(weight * rows[:, i : i + width] for i, weight in enumerate(weights)))


def _strips(
    a: np.ndarray, b: np.ndarray, dtype: type[np.number], overlap: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the same rows of both as `dtype`, some at a time; each time the last `overlap` rows come once more."""
    height = a.shape[0]
    step = max(overlap + 1, _STRIP_VALUES // max(1, a[0].size) - overlap)
    for start in range(0, height - overlap, step):
        rows = slice(start, min(start + step + overlap, height))
        yield a[rows].astype(dtype), b[rows].astype(dtype)


def alike(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two images as one type, so that they can be compared: grey is repeated, and 8 bits are raised to 16.

    Grey becomes as many equal channels as the other image has, and 8 bits become 16, full intensity full intensity,
    where one image has 16. Raises ValueError where neither has one channel, and their numbers differ.
    """
    channels = {a.shape[2], b.shape[2]}
    if len(channels) > 1 and 1 not in channels:
        raise ValueError(f"images of {a.shape[2]} and {b.shape[2]} channels cannot be compared")
    a, b = (np.repeat(each, max(channels), 2) if each.shape[2] < max(channels) else each for each in (a, b))
    if a.dtype != b.dtype:
        a, b = (each.astype(np.uint16) * np.uint16(257) if each.dtype == np.uint8 else each for each in (a, b))
    return a, b


def _check(a: np.ndarray, b: np.ndarray) -> None:
    """Raise ValueError where two images cannot be compared."""
    if a.shape != b.shape:
        raise ValueError(f"pictures of shapes {a.shape} and {b.shape} cannot be compared: resize one to the other")
    if PixelType.of(a) != PixelType.of(b):
        raise ValueError(f"{PixelType.of(a)} and {PixelType.of(b)} cannot be compared: convert one to the other")
    if a.size == 0:
        raise ValueError(f"pictures of shapes {a.shape} and {b.shape} have no pixels to compare")


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
