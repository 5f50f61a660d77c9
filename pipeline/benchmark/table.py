"""Results of a benchmark, for people and for programs."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.benchmark.basis.checks import Checked
from pipeline.benchmark.engine import MeasuredEngine
from pipeline.benchmark.forms import MeasuredForms
from pipeline.benchmark.ingest import forms, loader, packing
from pipeline.benchmark.ingest.measure import MeasuredIngest, Rates, ratio_of
from pipeline.benchmark.start import MeasuredStart
from pipeline.benchmark.step import MeasuredSteps
from pipeline.benchmark.translation import Measured
from pipeline.benchmark.workers import MeasuredWorkers
from pipeline.errors import printable


def show(measured: Measured, console: Console) -> None:
    """Print machine, limits, speeds and ratios, in this order."""
    for table in _tables(measured):
        console.print(table)


def show_forms(measured: MeasuredForms, console: Console) -> None:
    """Print machine, limits, and a line for each form of the generator."""
    console.print(_machine(measured.machine))
    console.print(_limits(measured.matmul_flops))
    config = measured.config
    network = f"ResNet-{config.blocks}, width {config.width}, {config.size}², {measured.flop / 1e9:.1f} GFLOP an image"
    table = _table(f"Generator: {network}, batch {config.batch}", "", "img/s", "best", "of dense", "× the first")
    plain = statistics.median(measured.rates[0])
    for form, rates in zip(measured.forms, measured.rates, strict=True):
        rate = statistics.median(rates)
        share = rate * measured.flop / measured.matmul_flops[form.precision]
        table.add_row(
            str(form.form),
            f"{rate:.2f}",
            f"{max(rates):.2f}",
            f"{share:.2f} {form.precision}",
            f"{rate / plain:.2f}",
        )
    table.caption = f"medians of {config.repeats}; of dense: by the multiplications of direct convolution"
    console.print(table)


def show_checks(title: str, medians: str, measured: Checked, console: Console) -> None:
    """Print the machine, and the lines of each check; of one that failed or was left out, why."""
    console.print(_machine(measured.machine))
    checks = measured.checks
    table = _table(title, "", "found", "goal", "")
    for check in checks:
        if check.state != "passed":
            table.add_row(f"{check.name}: {check.state}: {printable(check.why)}")
        for row in check.rows:
            met = "" if row.met is None else "met" if row.met else "not met"
            table.add_row(printable(row.what), printable(row.found), row.goal, met)
        table.add_section()
    times = ", ".join(f"{check.name} {check.seconds:.0f}" for check in checks)
    table.caption = f"{medians}; seconds: {times}"
    console.print(table)


def show_start(measured: MeasuredStart, console: Console) -> None:
    """Print the machine, and a line for each start."""
    console.print(_machine(measured.machine))
    table = _table("Start of jobs.translate: 8 images of 64², ResNet-9, warm file cache", "", "s", "least", "goal")
    for what, seconds in measured.seconds.items():
        median, goal = statistics.median(seconds), measured.goals[what]
        met = f"{goal:g} at most, {'met' if median <= goal else 'not met'}"
        table.add_row(what, f"{median:.2f}", f"{min(seconds):.2f}", met)
    table.caption = f"medians of {measured.config.repeats}, from the command"
    console.print(table)


def show_workers(measured: MeasuredWorkers, console: Console) -> None:
    """Print the machine, and a line for one worker and for several."""
    console.print(_machine(measured.machine))
    table = _table(
        "Training by one worker and by several: CycleGAN of ResNet-9, 128², fp32", "", "img/s", "best", "ratio", "goal"
    )
    table.add_row("one worker with all threads", *_rates(measured.one))
    table.add_row(
        f"{measured.workers} workers of one thread",
        *_rates(measured.several),
        f"{measured.ratio:.2f}",
        _against(measured.ratio, measured.goal),
    )
    table.caption = f"medians of {measured.config.repeats}, by jobs.train, after the first step"
    console.print(table)


def _rates(rates: Sequence[float]) -> tuple[str, str]:
    return f"{statistics.median(rates):.2f}", f"{max(rates):.2f}"


def show_steps(measured: MeasuredSteps, console: Console) -> None:
    """Print machine, limits, and a line for each form of the step."""
    console.print(_machine(measured.machine))
    console.print(_limits(measured.matmul_flops))
    config = measured.config
    title = f"Training step: {measured.objective}, {measured.crop_size}², batch {config.global_batch}"
    table = _table(title, "", "s/step", "best", "× the first", "goal")
    plain = statistics.median(measured.seconds[0])
    for form, seconds in zip(measured.forms, measured.seconds, strict=True):
        step, is_default = statistics.median(seconds), form == measured.default
        name = f"{form} (the default here)" if is_default else str(form)
        goal = _against(plain / step, measured.goal if is_default else None)
        table.add_row(name, f"{step:.3f}", f"{min(seconds):.3f}", f"{plain / step:.2f}", goal)
    table.caption = f"medians of {len(measured.seconds[0])}; {printable(config.recipe)}"
    console.print(table)


def show_ingest(measured: MeasuredIngest, console: Console) -> None:
    """Print the machine, and for each part a line for each rate, with its ratio to what it is compared with."""
    config, goals = measured.config, measured.goals
    console.print(_machine(measured.machine))
    pictures = f"{config.images} JPEG pictures of {config.source_size}² on a local disk, in the system's cache"
    if measured.forms:
        table = _compared("Reading and decoding", measured.forms, forms.BARE, "× decode alone", goals["forms"])
        table.caption = (
            f"medians of {config.repeats}; {measured.threads} processes; {pictures}. Alone, they are in memory"
        )
        console.print(table)
    if measured.packing:
        only = {packing.PACK: goals["packing"]}
        table = _compared("Packing as they are", measured.packing, packing.SCRIPT, "× the script", only)
        table.caption = f"medians of {config.repeats}; one process each; {pictures}. Packing decodes each image, too"
        console.print(table)
    if measured.rates:
        step = f"pix2pix {config.size}², {config.global_batch} pairs a step, {measured.precision}"
        table = _compared(f"Loader: {step}", measured.rates, loader.STEP, "× the step", {})
        table.caption = (
            f"medians of {config.repeats}; both images of a pair are counted. {config.pairs} pairs of JPEG pictures of "
            f"{config.source_size}² in a Parquet store on a local disk. The loader alone leaves the step out"
        )
        console.print(table)


def _compared(title: str, rates: Rates, base: str, times: str, goals: float | Mapping[str, float]) -> Table:
    """Return a table of rates beside the one named `base`; one goal is for all others, or each has its own."""
    table = _table(title, "", "img/s", "best", times, "goal")
    for name in rates:
        found = ratio_of(rates, name, base)
        goal = goals if isinstance(goals, float) else goals.get(name)
        table.add_row(name, *_rates(rates[name]), f"{found:.2f}", "" if name == base else _against(found, goal))
    return table


def show_engine(measured: MeasuredEngine, console: Console) -> None:
    """Print the machine, and a line for each size of the pool."""
    config = measured.config
    console.print(_machine(measured.machine))
    table = _table(f"Engine: units of {config.unit_s:g} s, {config.units_each} an actor", "", "busy", "goal")
    for actors, busy in measured.busy.items():
        name = f"{actors} actor" if actors == 1 else f"{actors} actors"
        table.add_row(name, f"{busy:.3f}", _against(busy, measured.goal))
    table.caption = "share of the time of an actor from its first unit's begin to its last one's end; a unit only waits"
    console.print(table)


def fields(measured: Measured) -> dict[str, Any]:
    """Return everything that was measured, with every repetition."""
    ratios = {name: ratio._asdict() for name, ratio in measured.ratios.items()}
    return dataclasses.asdict(measured) | {"pipeline": measured.pipeline._asdict(), "ratios": ratios}


def _tables(measured: Measured) -> Iterator[Table]:
    config, arithmetic, machine = measured.config, measured.arithmetic, measured.machine
    yield _machine(machine)
    limits = _limits(measured.matmul_flops)
    limits.add_row("memory copy, read + write", f"{measured.copy_bytes / 1e9:.1f} GB/s")
    yield limits

    network = f"ResNet-{config.blocks}, width {config.width}, {config.size}², {measured.flop / 1e9:.1f} GFLOP an image"
    table = _table(f"Translation: {network}", "", "img/s", "best", "GFLOP/s", "of dense")
    ours = f"{arithmetic.form}, batch {arithmetic.batch_of((config.size, config.size))}"
    rows = (
        ("plain loop: fp32, batch 1, eager", measured.plain, measured.best["plain"], "fp32"),
        (f"model alone: {ours}", measured.model, measured.best["model"], arithmetic.precision),
        (f"pipeline: {ours}", measured.pipeline.rate, measured.best["pipeline"], arithmetic.precision),
    )
    for name, rate, best, precision in rows:
        flops = rate * measured.flop
        share = flops / measured.matmul_flops[precision]
        table.add_row(name, f"{rate:.2f}", f"{best:.2f}", f"{flops / 1e9:.0f}", f"{share:.2f} {precision}")
    table.caption = (
        f"medians of {config.repeats}. Plain loop: JPEG to PNG. Pipeline: {config.images} images, Parquet to Parquet, "
        f"from the first unit's receipt to the last one's; "
        f"first receipt after {measured.pipeline.first_s:.1f} s, whole job {measured.pipeline.wall_s:.1f} s"
    )
    yield table

    table = _table("Ratios", "", "median", "of the bests", "goal")
    for name, ratio in measured.ratios.items():
        goal = _against(ratio.median, measured.goals.get(name))
        table.add_row(name, f"{ratio.median:.2f}", f"{ratio.of_bests:.2f}", goal)
    yield table


def _against(found: float, goal: float | None) -> str:
    if goal is None:
        return ""
    return f"{goal:.2f}, {'met' if found >= goal else 'not met'}"


def _machine(machine: Mapping[str, Any]) -> Table:
    table = _table("Machine", "", "")
    table.add_row("device", machine["device"])
    table.add_row("cores", str(machine["cores"]))
    table.add_row("CPU capability", machine["cpu_capability"])
    table.add_row("torch", machine["torch"])
    table.add_row("load before the run", f"{machine['load']:.1f}")
    return table


def _limits(matmul_flops: Mapping[str, float]) -> Table:
    table = _table("Its own limits", "", "rate")
    for precision, flops in matmul_flops.items():
        table.add_row(f"dense matmul, {precision}", f"{flops / 1e12:.3f} TFLOP/s")
    return table


def _table(title: str, *headers: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i == 0 else "right")
    return table
