"""Goals of the benchmarks, as ratios within one run, by what a machine's hardware can do."""

from __future__ import annotations

from collections.abc import Mapping

FLOOR = 1.5
"""Ratio of the pipeline to the plain loop below which no machine may be."""


def translation_goals(device: str, capability: str, precision: str) -> Mapping[str, float]:
    """Return the goals of `jobs.benchmark translate`, by the names of its ratios.

    `capability` is that of `hardware.cpu_capability`, and `precision` the one in which the model computes.
    """
    goals = {"pipeline / model alone": 0.95}
    if device == "cpu":
        goals["pipeline / plain loop"] = _by_class(
            capability, precision, amx=6.0, bf16=1.9, avx512=2.0, avx2=1.7, other=FLOOR
        )
    return goals


def step_goal(device: str, capability: str, precision: str) -> float:
    """Return the goal of `jobs.benchmark step`: the default form of a step over eager fp32."""
    if device == "cuda":
        return 5.0
    return _by_class(capability, precision, amx=4.0, bf16=1.9, avx512=1.15, avx2=1.4, other=1.0)


def _by_class(
    capability: str, precision: str, *, amx: float, bf16: float, avx512: float, avx2: float, other: float
) -> float:
    """Return the value for a CPU: `avx512` where it has 512-bit vectors, and bf16 that does not pay or is not there."""
    if capability == "amx":
        return amx
    if capability.startswith("avx512"):
        return bf16 if precision == "bf16" else avx512
    return avx2 if capability == "avx2" else other
