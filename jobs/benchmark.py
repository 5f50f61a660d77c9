"""Measure start, engine, translation and training against this machine's own limits and the goals of its class."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobs.cli import DONE, FAILED, UNUSABLE, run_job
from jobs.ending import end
from pipeline import storage
from pipeline.benchmark.basis.config import (
    EngineBenchmarkConfig,
    GeneratorBenchmarkConfig,
    GoalsBenchmarkConfig,
    GpuBenchmarkConfig,
    IngestBenchmarkConfig,
    ScaleBenchmarkConfig,
    StartBenchmarkConfig,
    StepBenchmarkConfig,
    TilesBenchmarkConfig,
    TranslateBenchmarkConfig,
    WorkersBenchmarkConfig,
)
from pipeline.benchmark.memory.config import MemoryBenchmarkConfig
from pipeline.benchmark.scores.config import ScoresBenchmarkConfig
from pipeline.config import HELP, HELP_ALL
from pipeline.terminal import console, print_line, print_notice

if TYPE_CHECKING:
    from rich.console import Console


def goals(config: GoalsBenchmarkConfig) -> int:
    """Run the benchmarks that have goals, one after the other, and show all goals in one table."""
    from pipeline.benchmark import goals as reaching

    return _checked("goals", "Goals of a machine of this class", "medians", reaching.measure, config)


def start(config: StartBenchmarkConfig) -> int:
    """Measure how long a command takes to its help, its plan and the first unit that it has committed."""
    from pipeline.benchmark import start as starting
    from pipeline.benchmark import table

    return _measured("start", starting.measure, table.show_start, config)


def workers(config: WorkersBenchmarkConfig) -> int:
    """Measure training by one worker with all threads, and by a worker for each core."""
    from pipeline.benchmark import table
    from pipeline.benchmark import workers as working

    return _measured("workers", working.measure, table.show_workers, config)


def translate(config: TranslateBenchmarkConfig) -> int:
    """Measure the plain loop, the model alone and the whole pipeline."""
    from pipeline.benchmark import table, translation

    return _measured("translate", translation.measure, table.show, config, table.fields)


def generator(config: GeneratorBenchmarkConfig) -> int:
    """Measure one generator in every form that the device has."""
    from pipeline.benchmark import forms, table

    return _measured("generator", forms.measure, table.show_forms, config)


def step(config: StepBenchmarkConfig) -> int:
    """Measure one training step of a recipe in every form that the device has."""
    from pipeline.benchmark import step as stepping
    from pipeline.benchmark import table

    return _measured("step", stepping.measure, table.show_steps, config)


def engine(config: EngineBenchmarkConfig) -> int:
    """Measure how busy the engine keeps pools whose actors take a fixed time for a unit."""
    from pipeline.benchmark import engine as waiting
    from pipeline.benchmark import table

    return _measured("engine", waiting.measure, table.show_engine, config)


def ingest(config: IngestBenchmarkConfig) -> int:
    """Measure reading from each form, packing, and a training run's loader, each beside what bounds it."""
    from pipeline.benchmark import table
    from pipeline.benchmark.ingest import measure as ingesting

    return _measured("ingest", ingesting.measure, table.show_ingest, config)


def scale(config: ScaleBenchmarkConfig) -> int:
    """Plan, resume, finish and verify corpora of up to a hundred million images, against bounds of time and memory."""
    from pipeline.benchmark.scale import measure

    return _checked("scale", "Scale", "one run", measure.measure, config)


def tiles(config: TilesBenchmarkConfig) -> int:
    """Translate large pictures in tiles, and compare time, memory and pixels with those that go through whole."""
    from pipeline.benchmark import tiles as tiling

    return _checked("tiles", "Pictures in tiles", "the faster of two runs", tiling.measure, config)


def scores(config: ScoresBenchmarkConfig) -> int:
    """Measure the scores of pairs beside a plain loop, and those of two sets of images."""
    from pipeline.benchmark.scores import measure

    return _checked("scores", "Scores", f"medians of {config.repeats}", measure.measure, config)


def gpu(config: GpuBenchmarkConfig) -> int:
    """Make all checks that need a GPU, within some minutes."""
    from pipeline.benchmark import gpu as checking

    return _checked("gpu", "Checks on the GPU", f"medians of {config.repeats}", checking.measure, config)


def memory(config: MemoryBenchmarkConfig) -> int:
    """Watch the memory of every process of the jobs, over corpora that are hard on it."""
    from pipeline.benchmark.memory import jobs

    return _checked("memory", "Memory of the jobs' processes", "peaks", jobs.measure, config)


def _measured(
    name: str,
    measure: Callable[[Any], Any],
    show: Callable[[Any, Console], None],
    config: Any,
    fields: Callable[[Any], Mapping[str, Any]] = dataclasses.asdict,
) -> int:
    """Measure, show it on the terminal, and keep the numbers."""
    measured = measure(config)
    show(measured, console(sys.stdout))
    return _write(name, fields(measured), config.output)


def _checked(
    name: str, title: str, medians: str, measure: Callable[[Any, Callable[[Any], object]], Any], config: Any
) -> int:
    """Make checks, keep their numbers after each, and show them all at the end."""
    from pipeline.benchmark import table

    measured = measure(config, lambda so_far: _write(name, dataclasses.asdict(so_far), config.output, shown=False))
    table.show_checks(title, medians, measured, console(sys.stdout))
    _write(name, dataclasses.asdict(measured), config.output)
    return FAILED if any(check.state == "failed" for check in measured.checks) else DONE


BENCHMARKS: dict[str, tuple[type[Any], Callable[[Any], int]]] = {
    "goals": (GoalsBenchmarkConfig, goals),
    "start": (StartBenchmarkConfig, start),
    "translate": (TranslateBenchmarkConfig, translate),
    "generator": (GeneratorBenchmarkConfig, generator),
    "step": (StepBenchmarkConfig, step),
    "engine": (EngineBenchmarkConfig, engine),
    "ingest": (IngestBenchmarkConfig, ingest),
    "workers": (WorkersBenchmarkConfig, workers),
    "memory": (MemoryBenchmarkConfig, memory),
    "scale": (ScaleBenchmarkConfig, scale),
    "tiles": (TilesBenchmarkConfig, tiles),
    "scores": (ScoresBenchmarkConfig, scores),
    "gpu": (GpuBenchmarkConfig, gpu),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark that the first word names, with the flags that follow; without a word, that of all goals."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ["goals"]
    if arguments[0] not in BENCHMARKS:
        asked_for_help = arguments[0] in (*HELP, *HELP_ALL)
        line = f"benchmark: name one of {', '.join(BENCHMARKS)}, as in: python -m jobs.benchmark translate --help"
        (print_line if asked_for_help else print_notice)(line)
        return DONE if asked_for_help else UNUSABLE
    config, function = BENCHMARKS[arguments[0]]
    return run_job(
        config, function, name=f"benchmark {arguments[0]}", description=function.__doc__ or "", argv=arguments[1:]
    )


def _write(name: str, numbers: Mapping[str, Any], output: str | None, *, shown: bool = True) -> int:
    if output is not None:
        url = storage.join(storage.absolute(output), f"benchmark_{name}.json")
        storage.replace(url, json.dumps(numbers, indent=2).encode() + b"\n")
        if shown:
            print_line(f"numbers: {url}")
    return DONE


if __name__ == "__main__":
    end(main())
