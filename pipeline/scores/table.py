"""The metrics: what each is measured on, and which direction is better.

Evaluation, validation, their configuration and their reports read this table. A further metric is an entry of METRICS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.scores.metrics import l1, ms_ssim, psnr, ssim

On = Literal["pairs", "sets", "cycles", "identities", "sources"]
"""pairs: a translation and its target. sets: all translations and all images of their domain. cycles: an image and
itself after a translation there and back. identities: an image of the domain and its own translation, which should
change nothing. sources: an image and its translation."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number that says how good translations are."""

    name: str
    title: str
    """Name for people."""
    on: On
    higher_is_better: bool = False
    digits: int = 4
    """Decimals to show."""
    unit: str = ""
    needs_features: bool = False
    """True where the metric compares features of a network, which an extra installs."""
    of_pair: Callable[[np.ndarray, np.ndarray], float] | None = None
    """The value for two images of one shape and type; None where it takes more than them."""
    validated: bool = True
    """True where it is measured during training, too."""
    least_side: int = 1
    """Pixels of the shorter side, below which an image has no value."""
    needs: str = ""
    """Option without which it is not measured."""


METRICS = (
    Metric(name="kid", title="KID", on="sets", needs_features=True),
    Metric(name="l1", title="L1", on="pairs", of_pair=l1),
    Metric(name="psnr", title="PSNR", on="pairs", of_pair=psnr, higher_is_better=True, digits=2, unit=" dB"),
    Metric(name="ssim", title="SSIM", on="pairs", of_pair=ssim, higher_is_better=True, least_side=11),
    Metric(name="cycle_l1", title="cycle error", on="cycles", of_pair=l1, needs="--bundle"),
    Metric(
        name="ms_ssim",
        title="MS-SSIM",
        on="pairs",
        of_pair=ms_ssim,
        higher_is_better=True,
        validated=False,
        least_side=176,
    ),
    Metric(name="lpips", title="LPIPS", on="pairs", validated=False, needs="--lpips", least_side=31),
    Metric(name="fid", title="FID", on="sets", needs_features=True, digits=3, validated=False),
    Metric(name="precision", title="precision", on="sets", needs_features=True, higher_is_better=True, validated=False),
    Metric(name="recall", title="recall", on="sets", needs_features=True, higher_is_better=True, validated=False),
    Metric(name="density", title="density", on="sets", needs_features=True, higher_is_better=True, validated=False),
    Metric(name="coverage", title="coverage", on="sets", needs_features=True, higher_is_better=True, validated=False),
    Metric(name="identity_l1", title="identity error", on="identities", of_pair=l1, validated=False, needs="--bundle"),
    Metric(name="structure", title="structure distance", on="sources", needs_features=True, validated=False),
)
"""In the order of preference for the best checkpoint."""

BACK = "_back"
"""Ending of a score's name for the direction from B to A."""


def metrics_on(*kinds: On) -> list[Metric]:
    """Return the metrics of these kinds, or of all, in the order of METRICS."""
    return [metric for metric in METRICS if not kinds or metric.on in kinds]


def metrics_in_validation(*kinds: On) -> list[Metric]:
    """Return those of `metrics_on` that are measured during training."""
    return [metric for metric in metrics_on(*kinds) if metric.validated]


def metric_named(name: str) -> Metric | None:
    """Return the metric of a score's name, whatever its direction, or the features that it is measured on."""
    plain = name.removesuffix(BACK)
    return next((each for each in METRICS if plain == each.name or plain.startswith(f"{each.name}_")), None)


def mean_of_pairs(metric: Metric, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the mean over pairs of images, over the finite values where there are any."""
    assert metric.of_pair
    return _mean(np.array([metric.of_pair(image, target) for image, target in pairs]))


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float((finite if len(finite) else values).mean())
