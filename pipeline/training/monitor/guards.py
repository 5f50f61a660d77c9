"""What recent losses say of a run: pure functions over what was logged.

A history is the losses by name of each log step, oldest first; a resumed run goes on with that of its earlier starts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

Losses = Mapping[str, float]

RECENT = 100
"""Log steps that are looked back on."""

_LEAST_HISTORY = 10
_SMALL = 0.1
_ZERO = 1e-3
_ZERO_FOR = 20


def not_finite(losses: Losses) -> list[str]:
    """Which of `losses` are no numbers any more, and what they are."""
    return [f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value)]


def exploded(history: Sequence[Losses], losses: Losses, factor: float) -> list[str]:
    """Which of `losses` are more than `factor` times their recent median, in magnitude, and by how much.

    A median below 0.1 counts as 0.1: a discriminator that has been near zero may well come back. Nothing is said
    before 10 log steps, nor where `factor` is 0.
    """
    recent = history[-RECENT:]
    if not factor or len(recent) < _LEAST_HISTORY:
        return []
    found = []
    for name, value in losses.items():
        median = statistics.median(abs(line[name]) for line in recent)
        if abs(value) > factor * max(median, _SMALL):
            found.append(f"{name} is {value:.4g}, more than {factor:g} times its recent median of {median:.4g}")
    return found


def idle_discriminators(history: Sequence[Losses]) -> dict[str, int]:
    """For how many log steps up to now the loss of each discriminator has been about zero (below 0.001).

    Only those of at least 20 log steps. Such a discriminator tells real from translated without fail, and what the
    generator learns from it is little.
    """
    found = {}
    for name in _discriminators(history[-1]) if history else ():
        length = 0
        for line in reversed(history):
            if abs(_discriminators(line)[name]) >= _ZERO:
                break
            length += 1
        if length >= _ZERO_FOR:
            found[name] = length
    return found


def _discriminators(losses: Losses) -> dict[str, float]:
    """The whole loss of each discriminator: pix2pix logs its only one in parts."""
    parts = {name: value for name, value in losses.items() if name.startswith("d_")}
    return {"the discriminator": sum(parts.values())} if "d_real" in parts else parts
