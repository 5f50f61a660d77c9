"""Limits of this machine (dense matrix products, memory copies), and the goals of the benchmarks on one of its class.

Goals are ratios within one run, except on a GPU.
"""

from __future__ import annotations

import functools
import logging
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

from pipeline.cluster import hardware, host
from pipeline.models.measuring import DenseProduct

log = logging.getLogger("transdomain")

K = TypeVar("K")

FLOOR = 1.5
"""Ratio of the pipeline to the plain loop below which no machine may be."""

IMAGES_PER_S = 3400.0
"""Images of 256² that one H200 or H100 translates in a second, from Parquet to Parquet."""
FASTEST_STEP = 10.0
"""Ratio of a training step at a GPU's best batch to one at batch 1 in eager fp32, for each image."""

START_S = {
    "--help": 0.5,
    "an error of the command line": 0.5,
    "--dry_run": 3.0,
    "first commit, --local": 3.0,
    "first commit, on Ray": 8.0,
}
"""Seconds that a start takes at most, with a warm file cache."""
WORKERS = 0.9
"""Ratio of several training workers of one thread to one worker with as many threads, at least."""
READ = 0.9
"""Ratio of reading and decoding from a store to decoding the same images from memory, at least."""
PACKED = 0.6
"""Ratio of packing to a script that reads, hashes, writes and syncs the same objects, at least."""

_SIDE = {"cpu": 2048, "cuda": 8192}
_COPIED_BYTES = {"cpu": 1 << 28, "cuda": 1 << 32}
_CALLS = 5


def machine(device: str) -> dict[str, Any]:
    """Return a description of the machine; call this before the benchmark itself loads the machine."""
    return {
        "device": hardware.describe(device),
        "cores": host.available_cpus(),
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
        "cpu_capability": hardware.cpu_capability(),
    }


def in_turn(measurements: Mapping[K, Callable[[], float]], repeats: int) -> dict[K, list[float]]:
    """Run all `measurements` one after the other, `repeats` times over; return the results, one per repetition."""
    found: dict[K, list[float]] = {name: [] for name in measurements}
    for i in range(repeats):
        for name, measurement in measurements.items():
            found[name].append(measurement())
        log.info("repetition %d of %d is done", i + 1, repeats)
    return found


class MachineLimits:
    """Measurements on operands that are made once, so that each takes a few calls. fp32 is torch's default."""

    def __init__(self, device: str, precisions: tuple[str, ...]) -> None:
        self.products = {p: DenseProduct(device, p, _SIDE[device]) for p in precisions}
        self.source = torch.zeros(_COPIED_BYTES[device], dtype=torch.uint8, device=device)
        self.target = torch.ones_like(self.source)
        self.cuda = device == "cuda"

    def matmul_flops(self, precision: str) -> float:
        """Return the FLOP/s of a square product."""
        product = self.products[precision]
        return product.flop / self._seconds(product)

    def measurements(self) -> dict[str, Callable[[], float]]:
        """Return `matmul_flops` of each precision, to be measured in turn with others."""
        return {precision: functools.partial(self.matmul_flops, precision) for precision in self.products}

    def copy_bytes(self) -> float:
        """Return the bytes/s of a copy, both read and written ones counted."""
        return 2 * self.source.nbytes / self._seconds(lambda: self.target.copy_(self.source))

    def _seconds(self, function: Callable[[], object]) -> float:
        times = []
        for i in range(_CALLS + 1):
            started = time.perf_counter()
            function()
            if self.cuda:
                torch.cuda.synchronize()
            if i:
                times.append(time.perf_counter() - started)
        return statistics.median(times)


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
