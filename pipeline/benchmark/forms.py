"""Measure one generator in every form that this machine can run, in turn, against the machine's own limit."""

from __future__ import annotations

import logging
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from gan_models import GeneratorConfig
from gan_models.complexity import flop_of
from pipeline.benchmark.basis import contenders, inputs
from pipeline.benchmark.basis.config import GeneratorBenchmarkConfig
from pipeline.benchmark.basis.limits import MachineLimits, in_turn, machine
from pipeline.cluster import hardware, host
from pipeline.models import measuring
from pipeline.models.arithmetic import THREAD_PIXELS, Arithmetic

log = logging.getLogger("transdomain")


@dataclass(frozen=True)
class MeasuredForms:
    """Rates of each form in images/s, one per repetition; flops in FLOP/s, medians."""

    config: GeneratorBenchmarkConfig
    machine: Mapping[str, Any]
    flop: int
    """Number of multiplications and additions per image by direct convolution."""
    matmul_flops: Mapping[str, float]
    forms: Sequence[Arithmetic]
    rates: Sequence[Sequence[float]]


def measure(config: GeneratorBenchmarkConfig) -> MeasuredForms:
    """Measure the forms in turn, as often as `config` says. Each form has its own process."""
    device: Literal["cpu", "cuda"] = "cuda" if hardware.default_device() == "cuda" else "cpu"
    config = config.resolved(device)
    assert config.images
    assert config.batch
    about = machine(device)
    architecture = GeneratorConfig(kind="resnet", width=config.width, depth=config.blocks, norm="instance")
    precisions = hardware.supported_precisions(device)
    threads = host.available_cpus() if device == "cpu" else None
    forms = [
        Arithmetic(
            device=device,
            precision=form.precision,
            threads=threads,
            trunk=form.trunk,
            batch=config.batch,
            thread_pixels=THREAD_PIXELS,
            compiled=((config.size, config.size),) if form.compile else (),
        )
        for form in measuring.all_forms(device, architecture.kind)
        if not (config.quick and form.compile)
    ]
    limits = MachineLimits(device, precisions)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch, ExitStack() as stack:
        folder, bundle = f"{scratch}/jpeg", f"{scratch}/bundle"
        inputs.write_bundle(bundle, architecture, config.size)
        inputs.write_pictures(folder, config.images, config.size)
        rates: dict[Arithmetic, Callable[[], float]] = {}
        for form in forms:
            log.info("preparing %s", form.form)
            images = max(config.images, 2 * form.at_once((config.size, config.size)))
            contender = contenders.ModelAlone(folder, bundle, form, images)
            rates[form] = stack.enter_context(contenders.running(contender, host.WORKER_ENVIRONMENT))
        found = in_turn({**limits.measurements(), **rates}, config.repeats)
    medians = {precision: statistics.median(found[precision]) for precision in precisions}
    flop = flop_of(architecture, config.size)
    return MeasuredForms(config, about, flop, medians, forms, [found[form] for form in forms])
