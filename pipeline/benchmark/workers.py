"""Measure training with as many workers as the machine has cores, of one thread each, against one worker with all."""

from __future__ import annotations

import functools
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.benchmark.basis import inputs
from pipeline.benchmark.basis.checks import ROOT, run_module
from pipeline.benchmark.basis.config import WorkersBenchmarkConfig
from pipeline.benchmark.basis.limits import WORKERS, in_turn, machine
from pipeline.cluster import host
from pipeline.errors import UserError

_PICTURES = 16
_SIDE = 128
_LONGEST_S = 1800.0


@dataclass(frozen=True)
class MeasuredWorkers:
    """Rates in images/s, one number per repetition."""

    config: WorkersBenchmarkConfig
    machine: Mapping[str, Any]
    workers: int
    """Number of workers in the second of the two."""
    one: Sequence[float]
    """Rates of one worker with all threads."""
    several: Sequence[float]
    """Rates of `workers` workers with one thread each."""
    ratio: float
    """Median of the second over the first, in each repetition."""
    goal: float


def measure(config: WorkersBenchmarkConfig) -> MeasuredWorkers:
    """Run `jobs.train` in turn with one worker and with several, as often as `config` says.

    Raises UserError where there is one core only.
    """
    about, cores = machine("cpu"), host.available_cpus()
    if cores < 2:
        raise UserError("it needs two cores, and this process may use one")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        for side in ("a", "b"):
            inputs.write_pictures(f"{scratch}/{side}", _PICTURES, _SIDE)
        rates = {
            workers: functools.partial(_rate, config, scratch, workers, cores // workers) for workers in (1, cores)
        }
        found = in_turn(rates, 1 if config.quick else config.repeats)
    ratio = statistics.median(b / a for a, b in zip(found[1], found[cores], strict=True))
    return MeasuredWorkers(config, about, cores, found[1], found[cores], ratio, WORKERS)


def _rate(config: WorkersBenchmarkConfig, scratch: str, workers: int, threads: int) -> float:
    """Train CycleGAN in fp32, an image for each core in a step, and return the images/s after the first step."""
    run = f"{scratch}/run"
    shutil.rmtree(run, ignore_errors=True)
    size, width, depth = (32, 4, 1) if config.quick else (_SIDE, 64, 9)
    options = {
        "config": ROOT / "jobs" / "recipes" / "cyclegan.yaml", "input": f"{scratch}/a", "input_b": f"{scratch}/b",
        "output": run, "generator.width": width, "generator.depth": depth, "discriminator.width": width,
        "global_batch": host.available_cpus(), "load_size": size * 286 // 256, "crop_size": size,
        "steps": config.steps, "log_every": 1, "precision": "fp32", "trunk": "direct",
        "workers": workers, "cpus_per_worker": threads, "gpus_per_worker": 0,
    }  # fmt: skip
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    run_module("train", flags, time.monotonic() + _LONGEST_S)
    lines = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    return statistics.median(line["images_per_s"] for line in lines[1:] if "images_per_s" in line)
