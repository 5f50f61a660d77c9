"""One generator in every form in which this machine can run it, in turn, beside the machine's own limit."""

from __future__ import annotations

import itertools
import logging
import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gan_models import GeneratorConfig
from gan_models.complexity import flop_of
from pipeline import hardware
from pipeline.benchmark import contenders, inputs
from pipeline.benchmark.limits import Limits, machine
from pipeline.config.benchmark import GeneratorBenchmarkConfig
from pipeline.translation.stages import Arithmetic, Trunk

log = logging.getLogger("transdomain")


@dataclass(frozen=True)
class MeasuredForms:
    """Rates in images/s by form, one a repetition; flops in FLOP/s, medians."""

    config: GeneratorBenchmarkConfig
    machine: Mapping[str, Any]
    flop: int
    """Of one image by direct convolution, multiplications and additions."""
    matmul_flops: Mapping[str, float]
    forms: Sequence[Arithmetic]
    rates: Sequence[Sequence[float]]


def measure(config: GeneratorBenchmarkConfig) -> MeasuredForms:
    """Measure in turn, as often as `config` says. Each form has a process of its own."""
    device: Literal["cpu", "cuda"] = "cuda" if hardware.default_device() == "cuda" else "cpu"
    config = config.resolved(device)
    assert config.images
    assert config.batch
    about = machine(device, os.getloadavg()[0])
    architecture = GeneratorConfig(kind="resnet", width=config.width, depth=config.blocks, norm="instance")
    precisions = hardware.supported_precisions(device)
    forms = list(_forms(device, precisions, config.batch))
    if config.quick:
        forms = [form for form in forms if not form.compile]
    limits = Limits(device, precisions)
    rates: list[list[float]] = [[] for _ in forms]
    matmul_flops: dict[str, list[float]] = {p: [] for p in precisions}
    threads = hardware.available_cpus() if device == "cpu" else None
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch, ExitStack() as stack:
        folder, bundle = f"{scratch}/jpeg", f"{scratch}/bundle"
        inputs.write_bundle(bundle, architecture, config.size)
        inputs.write_pictures(folder, config.images, config.size)
        running = []
        for form in forms:
            log.info("preparing %s", name(form))
            contender = contenders.ModelAlone(folder, bundle, form, threads, config.images)
            running.append(stack.enter_context(contenders.running(contender, hardware.MALLOC_ENVIRONMENT)))
        for i in range(config.repeats):
            for precision in precisions:
                matmul_flops[precision].append(limits.matmul_flops(precision))
            for found, rate in zip(rates, running, strict=True):
                found.append(rate())
            log.info("repetition %d of %d is done", i + 1, config.repeats)
    medians = {precision: statistics.median(found) for precision, found in matmul_flops.items()}
    return MeasuredForms(config, about, flop_of(architecture, config.size), medians, forms, rates)


def name(form: Arithmetic) -> str:
    """A form in words."""
    trunk = ", Winograd" if form.trunk == "winograd" else ""
    return f"{form.precision}{trunk}, {'compiled' if form.compile else 'eager'}"


def _forms(device: str, precisions: Sequence[str], batch: int) -> Iterator[Arithmetic]:
    """The plain one first."""
    for precision, trunk, compiled in itertools.product(precisions, get_args(Trunk), (False, True)):
        if trunk == "direct" or (device, precision) == ("cpu", "fp32"):
            yield Arithmetic(device=device, precision=precision, compile=compiled, trunk=trunk, batch=batch)
