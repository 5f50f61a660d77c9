"""Checks of recent losses: pure functions over what was logged.

A history holds the losses by name of each log step, oldest first; a resumed run continues the history of its earlier
starts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

Losses = Mapping[str, float]

RECENT = 100
"""Number of recent log steps that are considered."""

_MIN_HISTORY = 10
_MIN_MEDIAN = 0.1
_ZERO_BELOW = 1e-3
_MIN_IDLE_LINES = 20


def not_finite(losses: Losses) -> list[str]:
    """Return which of `losses` are no longer finite, and their values."""
    return [f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value)]


def exploded(history: Sequence[Losses], losses: Losses, factor: float) -> list[str]:
    """Return which of `losses` are more than `factor` times their recent median, in magnitude, and by how much.

    A median below 0.1 counts as 0.1: a discriminator whose loss has been near zero may well recover. Nothing is
    reported before 10 log steps, nor where `factor` is 0.
    """
    recent = history[-RECENT:]
    if not factor or len(recent) < _MIN_HISTORY:
        return []
    found = []
    for name, value in losses.items():
        median = statistics.median(abs(line[name]) for line in recent)
        if abs(value) > factor * max(median, _MIN_MEDIAN):
            found.append(f"{name} is {value:.4g}, more than {factor:g} times its recent median of {median:.4g}")
    return found


def idle_discriminators(history: Sequence[Losses]) -> dict[str, int]:
    """Return for how many log steps up to now each discriminator's loss has been about zero (below 0.001).

    Only discriminators with at least 20 such log steps are included. Such a discriminator never fails to tell real from
    translated images, and the generator learns little from it.
    """
    found = {}
    for name in _discriminators(history[-1]) if history else ():
        length = 0
        for line in reversed(history):
            if abs(_discriminators(line)[name]) >= _ZERO_BELOW:
                break
            length += 1
        if length >= _MIN_IDLE_LINES:
            found[name] = length
    return found


def _discriminators(losses: Losses) -> dict[str, float]:
    """Return the total loss of each discriminator; pix2pix logs that of its only one in parts."""
    parts = {name: value for name, value in losses.items() if name.startswith("d_")}
    return {"the discriminator": sum(parts.values())} if "d_real" in parts else parts
