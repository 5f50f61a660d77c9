"""All goals of this machine's class, by the benchmarks in turn, in one table."""

from __future__ import annotations

import functools
import statistics
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.benchmark.basis.checks import Checked, Checking, Keep, Row, run_benchmark, run_checks
from pipeline.benchmark.basis.config import GoalsBenchmarkConfig
from pipeline.benchmark.basis.limits import machine
from pipeline.cluster import hardware
from pipeline.models.arithmetic import Form


def measure(config: GoalsBenchmarkConfig, keep: Keep = lambda checked: None) -> Checked:
    """Run the benchmarks that `config` names; call `keep` after each, with all so far."""
    about = machine("cuda" if hardware.default_device() == "cuda" else "cpu")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        checks: dict[str, Checking] = {
            name: functools.partial(_check, name, config, scratch) for name in config.benchmarks
        }
        return run_checks(config, about, checks, keep)


def _check(name: str, config: GoalsBenchmarkConfig, scratch: str, ends: float) -> tuple[list[Row], Mapping[str, Any]]:
    options = ["--quick"] if config.quick else []
    if name == "step" and hardware.default_device() == "cpu":
        options.append("--no_compile")  # it takes minutes, and is no default of jobs.train there
    found = run_benchmark(name, options, scratch, ends)
    return _ROWS[name](found), found


def _start(found: Mapping[str, Any]) -> list[Row]:
    medians = {what: statistics.median(seconds) for what, seconds in found["seconds"].items()}
    return [
        Row(f"start: {what}, s", f"{seconds:.2f}", f"{found['goals'][what]:g} at most", seconds <= found["goals"][what])
        for what, seconds in medians.items()
    ]


def _engine(found: Mapping[str, Any]) -> list[Row]:
    return [
        Row(
            f"engine: {actors} actor(s) with units of {found['config']['unit_s']:g} s, busy",
            *_least(busy, found["goal"]),
        )
        for actors, busy in found["busy"].items()
    ]


def _translate(found: Mapping[str, Any]) -> list[Row]:
    form = Form(
        **{name: found["arithmetic"][name] for name in ("precision", "trunk")},
        compile=bool(found["arithmetic"]["compiled"]),
    )
    return [
        Row(f"translate ({form}): {name}", *_least(found["ratios"][name]["median"], goal))
        for name, goal in found["goals"].items()
    ]


def _step(found: Mapping[str, Any]) -> list[Row]:
    medians = [statistics.median(seconds) for seconds in found["seconds"]]
    default = found["forms"].index(found["default"])
    name = f"step ({Form(**found['default'])}): eager fp32 / default"
    return [Row(name, *_least(medians[0] / medians[default], found["goal"]))]


def _workers(found: Mapping[str, Any]) -> list[Row]:
    return [
        Row(
            f"training: {found['workers']} workers / one worker with all threads",
            *_least(found["ratio"], found["goal"]),
        )
    ]


def _least(found: float, goal: float) -> tuple[str, str, bool]:
    return f"{found:.2f}", f"{goal:.2f}", found >= goal


_ROWS: Mapping[str, Callable[[Mapping[str, Any]], list[Row]]] = {
    "start": _start,
    "engine": _engine,
    "translate": _translate,
    "step": _step,
    "workers": _workers,
}
