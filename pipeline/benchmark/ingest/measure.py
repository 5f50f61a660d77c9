"""Measure images on their way in, part by part; each rate is compared with another one of the same repetition."""

from __future__ import annotations

import contextlib
import logging
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from pipeline.benchmark.basis import inputs
from pipeline.benchmark.basis.config import IngestBenchmarkConfig
from pipeline.benchmark.basis.limits import PACKED, READ, in_turn, machine
from pipeline.benchmark.ingest import forms, loader, packing
from pipeline.cluster import hardware, host

log = logging.getLogger("transdomain")

Rates = Mapping[str, Sequence[float]]
"""Rates in images/s, one number per repetition."""


@dataclass(frozen=True)
class MeasuredIngest:
    """Rates of each part that was measured; none for the others."""

    config: IngestBenchmarkConfig
    machine: Mapping[str, Any]
    precision: str
    """Precision of the training step."""
    threads: int
    """Number of threads of torch and of the loader, and of processes that read."""
    forms: Rates = field(default_factory=dict)
    packing: Rates = field(default_factory=dict)
    rates: Rates = field(default_factory=dict)
    """Rates of the loader, both sides of a pair counted."""
    goals: Mapping[str, float] = field(default_factory=lambda: {"forms": READ, "packing": PACKED})
    """Ratio of reading from each form to decoding alone, and of packing to the plain script, at least."""


def ratio_of(rates: Rates, name: str, base: str) -> float:
    """Return one rate over another one, as the median of the ratios within each repetition."""
    return statistics.median(a / b for a, b in zip(rates[name], rates[base], strict=True))


def measure(config: IngestBenchmarkConfig) -> MeasuredIngest:
    """Measure each part in turn, as often as `config` says."""
    device = torch.device(hardware.default_device())
    config = config.resolved("cuda" if device.type == "cuda" else "cpu")
    assert config.images
    about, threads = machine(device.type), host.available_cpus()
    torch.set_num_threads(threads)
    precision = hardware.supported_precisions(device.type)[-1]
    found = dict[str, Rates]()
    for part in config.parts:
        log.info("preparing: %s", part)
        with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
            if part == "forms":
                files = inputs.pictures(min(config.images, 64), config.source_size)
                found["forms"] = _in_turn(forms.measurements(scratch, files, config.images), config)
            elif part == "packing":
                inputs.write_pictures(f"{scratch}/in", config.images, config.source_size)
                found["packing"] = _in_turn(packing.measurements(scratch, f"{scratch}/in"), config)
            else:
                loading = loader.measurements(config, scratch, device, precision, threads)
                found["rates"] = _in_turn(loading, config, warm_up=True)
    reading, packed, loaded = (found.get(name, {}) for name in ("forms", "packing", "rates"))
    return MeasuredIngest(config, about, precision, threads, reading, packed, loaded)


def _in_turn(
    measurements: contextlib.AbstractContextManager[dict[str, Callable[[], float]]],
    config: IngestBenchmarkConfig,
    *,
    warm_up: bool = False,
) -> Rates:
    with measurements as measured:
        for name, rate in measured.items() if warm_up else ():
            log.info("warming up: %s", name)
            rate()
        return in_turn(measured, config.repeats)
