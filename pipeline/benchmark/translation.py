"""Measure the machine's limits, the plain loop, the model alone and the whole pipeline of a translation, in turn."""

from __future__ import annotations

import dataclasses
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from gan_models import GeneratorConfig
from gan_models.complexity import flop_of
from pipeline.benchmark.basis import contenders, inputs
from pipeline.benchmark.basis.config import TranslateBenchmarkConfig
from pipeline.benchmark.basis.contenders import ModelAlone, PlainLoop
from pipeline.benchmark.basis.limits import MachineLimits, machine, translation_goals
from pipeline.cluster import hardware, host
from pipeline.engine import launch
from pipeline.engine.completion.budget import Budget
from pipeline.engine.executors import local
from pipeline.engine.executors.progress import Meter
from pipeline.engine.publishing.steps import Receipt, Task, Workload
from pipeline.engine.records.limits import MOST_ROWS, Limits
from pipeline.engine.run import run
from pipeline.errors import UserError
from pipeline.models.arithmetic import Arithmetic
from pipeline.pack.config import PackConfig
from pipeline.pack.job import pack_jobs
from pipeline.translate.config import TranslateConfig
from pipeline.translate.job import translate_job
from pipeline.translation.options import Compile

log = logging.getLogger("transdomain")

_UNITS = 4  # as the plan of a small corpus has for one actor


class PipelineTimes(NamedTuple):
    """Rate and times of one run of the pipeline."""

    rate: float
    """Rate in images/s from the first unit's receipt to the last one's: without start-up and the first unit."""
    first_s: float
    """Seconds from the call to the first receipt: planning, starting Ray, loading the model, the first unit."""
    wall_s: float
    """Seconds of the whole call, including Ray's shutdown and the final report."""


class Ratio(NamedTuple):
    """Ratio of one rate to another."""

    median: float
    """Median of the ratios within each repetition, since a machine's speed may drift from one to the next."""
    of_bests: float
    """Best of one over the best of the other: what a machine that others use can do undisturbed."""


@dataclass(frozen=True)
class Measured:
    """Medians over the repetitions; rates in images/s, flops in FLOP/s."""

    config: TranslateBenchmarkConfig
    arithmetic: Arithmetic
    machine: Mapping[str, Any]
    flop: int
    """Number of multiplications and additions per image in the network."""
    matmul_flops: Mapping[str, float]
    copy_bytes: float
    plain: float
    model: float
    pipeline: PipelineTimes
    best: Mapping[str, float]
    """Best rates of plain, model and pipeline."""
    ratios: Mapping[str, Ratio]
    goals: Mapping[str, float]
    """Least value that a ratio should have on a machine of this class, by its name."""
    repetitions: Sequence[Mapping[str, Any]]


def measure(config: TranslateBenchmarkConfig) -> Measured:
    """Measure in turn, as often as `config` says. Raises UserError where the machine lacks what is asked for."""
    chosen = hardware.default_device() if config.device == "auto" else config.device
    device: Literal["cpu", "cuda"] = "cuda" if chosen == "cuda" else "cpu"
    config = config.resolved(device)
    about = machine(device)
    assert config.images
    assert config.plain_images
    architecture = GeneratorConfig(kind="resnet", width=config.width, depth=config.blocks, norm="instance")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        folder, bundle, store = f"{scratch}/jpeg", f"{scratch}/bundle", f"{scratch}/store"
        inputs.write_bundle(bundle, architecture, config.size)
        inputs.write_pictures(folder, config.images, config.size)
        _pack(folder, store)
        jobs = (_translate_config(config, store, bundle, f"{scratch}/out{i}") for i in range(config.repeats + 1))
        arithmetic = default_arithmetic(next(jobs))
        log.info("measuring %s", arithmetic)
        compiled: Compile = "always" if arithmetic.compiled else "never"
        jobs = (
            dataclasses.replace(job, precision=arithmetic.precision, trunk=arithmetic.trunk, compile=compiled)  # type: ignore[arg-type]
            for job in jobs
        )
        precisions = hardware.supported_precisions(device)
        plain = PlainLoop(folder, bundle, device, config.plain_images)
        # It runs about as long as the plain loop, and for all that is translated at once twice at least.
        model = ModelAlone(
            folder,
            bundle,
            arithmetic,
            max(2 * config.plain_images, 2 * arithmetic.at_once((config.size, config.size))),
        )
        limits = MachineLimits(device, precisions)
        with (
            contenders.running(plain, {}) as plain_rate,
            contenders.running(model, host.WORKER_ENVIRONMENT) as model_rate,
        ):
            repetitions = []
            for i, job in enumerate(jobs):
                repetitions.append(_repetition(limits, precisions, plain_rate, model_rate, job))
                log.info("repetition %d of %d is done", i + 1, config.repeats)
    return _summary(config, arithmetic, about, flop_of(architecture, config.size), repetitions)


def default_arithmetic(config: TranslateConfig) -> Arithmetic:
    """Return what `jobs.translate` chooses on this machine for what `config` leaves open, by its own measurement.

    A few images do not pay for compiling the model, and a large archive does: so it is compiled first, unless it is
    fastest in C. The choice then goes by what this has shown, as that of any later job on this machine.
    """

    def choose(wanted: TranslateConfig) -> Arithmetic:
        return Arithmetic(**translate_job(wanted, compute).recipe["arithmetic"])

    with launch.Computing(config, config.bundle) as compute:
        chosen = choose(config)
        if config.compile != "auto" or chosen.trunk == "winograd_c":
            return chosen
        try:
            choose(dataclasses.replace(config, compile="always"))
        except UserError as error:
            log.warning("measured without compiled code: %s", error)
        return choose(config)


def _repetition(
    limits: MachineLimits,
    precisions: Sequence[str],
    plain_rate: Callable[[], float],
    model_rate: Callable[[], float],
    job: TranslateConfig,
) -> dict[str, Any]:
    found: dict[str, Any] = {"matmul_flops": {p: limits.matmul_flops(p) for p in precisions}}
    found["copy_bytes"] = limits.copy_bytes()
    plain, model = list[float](), list[float]()

    def turn() -> None:
        plain.append(plain_rate())
        model.append(model_rate())

    turn()
    turn()
    found["pipeline"] = pipeline_times(job)
    turn()
    # Each turn has equally many images, so this is all images over all of the time.
    found |= {"plain": statistics.harmonic_mean(plain), "model": statistics.harmonic_mean(model)}
    return found


def pipeline_times(config: TranslateConfig) -> PipelineTimes:
    """Run `jobs.translate` and time its receipts."""
    arrived: list[tuple[float, Receipt]] = []

    def execute(workloads: Sequence[Workload], tasks: Sequence[Task], meter: Meter) -> Iterator[Receipt]:
        for receipt in launch.on_ray_cluster(workloads, tasks, meter):
            arrived.append((time.perf_counter(), receipt))
            yield receipt

    started = time.perf_counter()
    run([translate_job(config)], execute, config.budget)
    wall = time.perf_counter() - started
    first, last = arrived[0][0], arrived[-1][0]
    counted = sum(receipt.ok for _, receipt in arrived[1:])
    return PipelineTimes(counted / (last - first), first - started, wall)


def _summary(
    config: TranslateBenchmarkConfig,
    arithmetic: Arithmetic,
    about: Mapping[str, Any],
    flop: int,
    repetitions: Sequence[Mapping[str, Any]],
) -> Measured:
    def median(value: Callable[[Mapping[str, Any]], float]) -> float:
        return statistics.median(value(r) for r in repetitions)

    matmul_flops = {p: median(lambda r, p=p: r["matmul_flops"][p]) for p in repetitions[0]["matmul_flops"]}  # type: ignore[misc]
    times = (median(lambda r, i=i: r["pipeline"][i]) for i in range(len(PipelineTimes._fields)))  # type: ignore[misc]

    def ratio(above: Callable[[Mapping[str, Any]], float], below: Callable[[Mapping[str, Any]], float]) -> Ratio:
        return Ratio(median(lambda r: above(r) / below(r)), max(map(above, repetitions)) / max(map(below, repetitions)))

    def plain(r: Mapping[str, Any]) -> float:
        return r["plain"]

    def model(r: Mapping[str, Any]) -> float:
        return r["model"]

    def whole(r: Mapping[str, Any]) -> float:
        return r["pipeline"].rate

    ratios = {
        "pipeline / plain loop": ratio(whole, plain),
        "model alone / plain loop": ratio(model, plain),
        "pipeline / model alone": ratio(whole, model),
        f"model alone / dense {arithmetic.precision}": ratio(
            lambda r: r["model"] * flop, lambda r: r["matmul_flops"][arithmetic.precision]
        ),
        "plain loop / dense fp32": ratio(lambda r: r["plain"] * flop, lambda r: r["matmul_flops"]["fp32"]),
    }
    return Measured(
        config=config,
        arithmetic=arithmetic,
        machine=about,
        flop=flop,
        matmul_flops=matmul_flops,
        copy_bytes=median(lambda r: r["copy_bytes"]),
        plain=median(lambda r: r["plain"]),
        model=median(lambda r: r["model"]),
        pipeline=PipelineTimes(*times),
        best={
            "plain": max(map(plain, repetitions)),
            "model": max(map(model, repetitions)),
            "pipeline": max(map(whole, repetitions)),
        },
        ratios=ratios,
        goals=translation_goals(arithmetic.device, about["cpu_capability"], arithmetic.precision),
        repetitions=[{**r, "pipeline": r["pipeline"]._asdict()} for r in repetitions],
    )


def _translate_config(config: TranslateBenchmarkConfig, store: str, bundle: str, output: str) -> TranslateConfig:
    assert config.images
    batch = config.batch or (32 if config.device == "cuda" else 1)
    rows = min(-(-max(1, config.images // _UNITS) // batch) * batch, MOST_ROWS)
    if rows >= config.images:
        raise UserError(
            f"images is {config.images}: with a batch of {batch}, {2 * rows} are the fewest to measure with"
        )
    return TranslateConfig(
        input=store,
        output=output,
        bundle=(bundle,),
        device=config.device,
        precision=config.precision,
        compile=config.compile,
        batch=config.batch,
        resources=config.resources,
        limits=Limits(rows=rows),
    )


def _pack(folder: str, store: str) -> None:
    run(pack_jobs(PackConfig(input=folder, output=store, local=True)), local.execute, Budget())
