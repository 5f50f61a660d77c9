"""Measure one training step of a recipe in every arithmetic of this machine's hardware, against eager fp32."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from pipeline.benchmark.basis.config import StepBenchmarkConfig
from pipeline.benchmark.basis.limits import MachineLimits, in_turn, machine, step_goal
from pipeline.cluster import hardware, host
from pipeline.config import parse
from pipeline.models import measuring
from pipeline.models.arithmetic import Form, fastest
from pipeline.stores.tables.ranges import Range, Ranges
from pipeline.training.config.sections import When
from pipeline.training.config.train import TrainConfig
from pipeline.training.data.context import Context
from pipeline.training.data.loader import Source, Sources
from pipeline.training.distributed.group import Group
from pipeline.training.model.captured import WARM_UP
from pipeline.training.model.replica import Replica

log = logging.getLogger("transdomain")


@dataclass(frozen=True)
class MeasuredSteps:
    """Seconds per step of each form, one number per repetition; flops in FLOP/s, medians."""

    config: StepBenchmarkConfig
    machine: Mapping[str, Any]
    objective: str
    crop_size: int
    matmul_flops: Mapping[str, float]
    forms: Sequence[Form]
    seconds: Sequence[Sequence[float]]
    default: Form
    """Form that jobs.train chooses: on a GPU the fastest, on a CPU the fastest of those that are not compiled."""
    goal: float
    """Least ratio of eager fp32 to the default that a machine of this class should have."""


def measure(config: StepBenchmarkConfig) -> MeasuredSteps:
    """Measure the forms in turn, as `config` says. Raises UserError for a recipe that jobs.train would not take."""
    device: Literal["cpu", "cuda"] = "cuda" if hardware.default_device() == "cuda" else "cpu"
    about = machine(device)
    recipe = parse(
        TrainConfig,
        ["--config", config.recipe, "--input", "none", "--output", "none"],
        prog="benchmark step",
        description="",
    )
    if config.quick:
        recipe = _small(recipe)
    batch = config.global_batch or recipe.global_batch
    torch.set_num_threads(host.available_cpus())
    precisions = hardware.supported_precisions(device) if config.precision == "all" else ("fp32",)
    forms = [
        form
        for form in measuring.all_forms(device, recipe.generator.kind, with_c=False)
        if form.precision in precisions
        and not (form.compile and (config.quick or not config.compile))
        # Compiling takes a minute and more, and fp32 is not what a GPU with bf16 trains in.
        and not (device == "cuda" and form.compile and form.precision == "fp32")
    ]
    steps: dict[Form, Callable[[], float]] = {}
    for form in forms:
        log.info("preparing %s", form)
        steps[form] = _prepare(recipe, form, batch, device)
    limits = MachineLimits(device, precisions)
    found = in_turn({**limits.measurements(), **steps}, 1 if config.quick else config.repeats)
    medians = {precision: statistics.median(found[precision]) for precision in precisions}
    config, seconds = dataclasses.replace(config, global_batch=batch), [found[form] for form in forms]
    compiles = device == "cuda"
    default = fastest({form: statistics.median(found[form]) for form in forms if compiles or not form.compile})
    goal = step_goal(device, about["cpu_capability"], default.precision)
    return MeasuredSteps(config, about, recipe.objective, recipe.crop_size, medians, forms, seconds, default, goal)


def _prepare(recipe: TrainConfig, form: Form, batch: int, device: str) -> Callable[[], float]:
    """Run a step with its own networks twice, and return a function that runs it again and returns the seconds."""
    on: When = "always" if form.compile else "never"
    plain = form == Form(precision="fp32")
    recipe = dataclasses.replace(
        recipe,
        compile=on,
        channels_last="never" if plain else "always" if form.compile else "auto",
        cuda_graphs="always" if device == "cuda" and form.compile else "never",
        global_batch=batch,
    )
    source = Source(url="drawn", column="image", ranges=Ranges.of([Range("0", "drawn/0", "", 0, 1000 * batch, 0)]))
    context = Context(
        config=recipe, sources=Sources(a=source, b=source), group=Group(), device=torch.device(device), threads=1
    )
    replica = Replica(context, form.precision, form.trunk)
    size, channels = recipe.crop_size, recipe.generator.in_channels
    random = torch.Generator().manual_seed(0)
    real_a, real_b = (
        (torch.rand(batch, channels, size, size, generator=random) * 2 - 1).to(
            device, memory_format=replica.memory_format
        )
        for _ in range(2)
    )
    done = itertools.count()

    def step() -> float:
        began_s = time.perf_counter()
        replica.step(real_a, real_b, step=next(done), samples=batch)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began_s

    first = 2
    if device == "cuda":  # until the image pools are full, and the step has been captured
        first += WARM_UP + max(-(-pool.size // batch) for pool in replica.objective.pools.values())
    for _ in range(first):
        step()
    return step


def _small(recipe: TrainConfig) -> TrainConfig:
    return dataclasses.replace(
        recipe,
        generator=dataclasses.replace(recipe.generator, width=4, depth=2),
        discriminator=dataclasses.replace(recipe.discriminator, width=4),
        load_size=36,
        crop_size=32,
    )
