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
from pipeline.benchmark.basis.checks import run_module
from pipeline.benchmark.basis.config import WorkersBenchmarkConfig
from pipeline.benchmark.basis.limits import WORKERS, in_turn, machine
from pipeline.cluster import host
from pipeline.errors import UserError

_PAIRS = 64
_SIDE = 256
_LINE = 5
"""Steps between two lines of the run's metrics; the first line has its start, and is left out."""
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
        size = 32 if config.quick else _SIDE
        inputs.write_pairs(f"{scratch}/store", inputs.pictures(8, size), _PAIRS)
        rates = {
            workers: functools.partial(_rate, config, scratch, workers, cores // workers) for workers in (1, cores)
        }
        found = in_turn(rates, 1 if config.quick else config.repeats)
    ratio = statistics.median(b / a for a, b in zip(found[1], found[cores], strict=True))
    return MeasuredWorkers(config, about, cores, found[1], found[cores], ratio, WORKERS)


def _rate(config: WorkersBenchmarkConfig, scratch: str, workers: int, threads: int) -> float:
    """Train the demonstration's pix2pix in fp32, and return the images/s after its first steps."""
    run = f"{scratch}/run"
    shutil.rmtree(run, ignore_errors=True)
    size, steps, width, depth = (16, 2 * _LINE, 4, 4) if config.quick else (128, config.steps, 32, 7)
    options = {
        "input": f"{scratch}/store", "output": run, "objective": "pix2pix", "direction": "b_to_a",
        "generator.kind": "unet", "generator.width": width, "generator.depth": depth, "generator.norm": "instance",
        "discriminator.in_channels": 6, "discriminator.width": width, "discriminator.norm": "instance",
        "global_batch": 2 * host.available_cpus(),
        "load_size": size * 286 // 256, "crop_size": size, "steps": steps, "log_every": _LINE,
        "precision": "fp32", "workers": workers, "cpus_per_worker": threads, "gpus_per_worker": 0,
    }  # fmt: skip
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    run_module("train", flags, time.monotonic() + _LONGEST_S)
    lines = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    return statistics.median(line["images_per_s"] for line in lines[1:] if "images_per_s" in line)
