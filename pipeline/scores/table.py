"""The metrics: what each is measured on, and which direction is better.

Evaluation, validation, their configuration and their reports read this table. A further metric is an entry of METRICS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np

from pipeline.scores.metrics import l1, psnr, ssim


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number that says how good translations are."""

    name: str
    title: str
    """Name for people."""
    on: Literal["pairs", "sets", "cycles"]
    """pairs: a translation and its target. sets: all translations and all images of their domain. cycles: an image and
    itself after a translation there and back."""
    higher_is_better: bool = False
    digits: int = 4
    """Decimals to show."""
    unit: str = ""
    needs_features: bool = False
    """True where the metric compares features of a network, which an extra installs."""
    of_pair: Callable[[np.ndarray, np.ndarray], float] | None = None
    """The value for two images, uint8 [H, W, 3] of one shape; None for a metric on sets."""


METRICS = (
    Metric(name="kid", title="KID", on="sets", needs_features=True),
    Metric(name="l1", title="L1", on="pairs", of_pair=l1),
    Metric(name="psnr", title="PSNR", on="pairs", of_pair=psnr, higher_is_better=True, digits=2, unit=" dB"),
    Metric(name="ssim", title="SSIM", on="pairs", of_pair=ssim, higher_is_better=True),
    Metric(name="cycle_l1", title="cycle error", on="cycles", of_pair=l1),
)
"""In the order of preference for the best checkpoint."""

BACK = "_back"
"""Ending of a score's name for the direction from B to A."""


def metrics_on(*kinds: Literal["pairs", "sets", "cycles"]) -> list[Metric]:
    """Return the metrics of these kinds, or of all, in the order of METRICS."""
    return [metric for metric in METRICS if not kinds or metric.on in kinds]


def metric_named(name: str) -> Metric | None:
    """Return the metric of a score's name, whatever its direction, or the features that it is measured on."""
    plain = name.removesuffix(BACK)
    return next((each for each in METRICS if plain == each.name or plain.startswith(f"{each.name}_")), None)


def score_pair(image: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Return the value of each metric on pairs, by name."""
    return {each.name: each.of_pair(image, target) for each in metrics_on("pairs") if each.of_pair}


def summarise(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the number of pairs, and the mean and median of each metric; only `pairs` where there is no score.

    PSNR is averaged in decibels, image by image, and infinite where an image equals its target: `equal` counts those.
    A mean is over the finite values, and infinite only where all are; a median takes infinity as the largest value.
    """
    if not scores:
        return {"pairs": 0.0}
    values = {name: np.array([each[name] for each in scores]) for name in scores[0]}
    found = {"pairs": float(len(scores)), "equal": float(np.isinf(values["psnr"]).sum())}
    for name, all_values in values.items():
        found |= {f"{name}_mean": _mean(all_values), f"{name}_median": _median(all_values)}
    return found


def mean_of_pairs(metric: Metric, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the mean over pairs of images, over the finite values where there are any."""
    assert metric.of_pair
    return _mean(np.array([metric.of_pair(image, target) for image, target in pairs]))


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float((finite if len(finite) else values).mean())


def _median(values: np.ndarray) -> float:
    """numpy's median is nan where it must average two infinities."""
    low, high = np.sort(values)[[(len(values) - 1) // 2, len(values) // 2]]
    return float((low + high) / 2) if isfinite(high) else float(high)
