"""Measure the start: seconds from a command to its help, its plan, or the first unit that it has committed."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_models import GeneratorConfig
from pipeline.benchmark.basis import inputs
from pipeline.benchmark.basis.checks import ROOT, own_environment
from pipeline.benchmark.basis.config import StartBenchmarkConfig
from pipeline.benchmark.basis.limits import START_S, in_turn, machine

_IMAGES, _SIDE = 8, 64
_POLL_S = 0.01


@dataclass(frozen=True)
class MeasuredStart:
    """Seconds of each start, one number per repetition."""

    config: StartBenchmarkConfig
    machine: Mapping[str, Any]
    seconds: Mapping[str, Sequence[float]]
    goals: Mapping[str, float]
    """Most seconds that each should take."""


def measure(config: StartBenchmarkConfig) -> MeasuredStart:
    """Measure in turn, as often as `config` says, after one round that fills the file cache."""
    about = machine("cpu")
    architecture = GeneratorConfig(kind="resnet", width=64, depth=9, norm="instance")
    if config.quick:
        architecture = GeneratorConfig(kind="resnet", width=4, depth=1, norm="instance")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        inputs.write_bundle(f"{scratch}/bundle", architecture, _SIDE)
        inputs.write_pictures(f"{scratch}/in", _IMAGES, _SIDE)
        job, outputs = ["--input", f"{scratch}/in", "--bundle", f"{scratch}/bundle"], map(str, itertools.count())

        def ending(options: Sequence[str], code: int = 0) -> Callable[[], float]:
            return functools.partial(_until_end, options, code)

        def committing(*options: str) -> Callable[[], float]:
            return lambda: _until_commit([*job, *options], Path(scratch, next(outputs)))

        starts = {
            "--help": ending(["--help"]),
            "an error of the command line": ending(["--no_such_option", "1"], 2),
            "--dry_run": ending([*job, "--output", f"{scratch}/none", "--dry_run"]),
            "first commit, --local": committing("--local"),
            "first commit, on Ray": committing(),
        }
        if not config.quick:
            in_turn(starts, 1)
        seconds = in_turn(starts, 1 if config.quick else config.repeats)
    return MeasuredStart(config, about, seconds, START_S)


def _command(options: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "jobs.translate", *options]


def _until_end(options: Sequence[str], code: int) -> float:
    began_s = time.perf_counter()
    ended = subprocess.run(_command(options), cwd=ROOT, env=own_environment(), capture_output=True, check=False)
    took_s = time.perf_counter() - began_s
    if ended.returncode != code:
        raise RuntimeError(f"jobs.translate {' '.join(options)} ended with {ended.returncode}, not {code}")
    return took_s


def _until_commit(options: Sequence[str], output: Path) -> float:
    """Return the seconds until a commit is there; the job runs to its end."""
    commits = output / "_transdomain" / "commits"
    with tempfile.TemporaryFile() as said:
        began_s = time.perf_counter()
        process = subprocess.Popen(
            _command([*options, "--output", str(output)]), cwd=ROOT, env=own_environment(), stdout=said, stderr=said
        )
        while process.poll() is None and not any(commits.glob("*.json")):
            time.sleep(_POLL_S)
        took_s = time.perf_counter() - began_s
        if process.wait():
            said.seek(0)
            raise RuntimeError(f"jobs.translate failed: {said.read().decode(errors='replace').strip()[-300:]}")
    return took_s
