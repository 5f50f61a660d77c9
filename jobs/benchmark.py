"""Measure start, engine, translation and training against this machine's own limits and the goals of its class."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobs.cli import DONE, FAILED, UNUSABLE, run_job
from jobs.ending import end
from pipeline import storage
from pipeline.benchmark.basis.config import (
    EngineBenchmarkConfig,
    GeneratorBenchmarkConfig,
    GoalsBenchmarkConfig,
    GpuBenchmarkConfig,
    IngestBenchmarkConfig,
    StartBenchmarkConfig,
    StepBenchmarkConfig,
    TranslateBenchmarkConfig,
    WorkersBenchmarkConfig,
)
from pipeline.config import HELP, HELP_ALL
from pipeline.terminal import console, print_line, print_notice


def goals(config: GoalsBenchmarkConfig) -> int:
    """Run the benchmarks that have goals, one after the other, and show all goals in one table."""
    from pipeline.benchmark import goals as reaching
    from pipeline.benchmark import table

    def keep(measured: reaching.MeasuredGoals) -> None:
        _write("goals", dataclasses.asdict(measured), config.output, shown=False)

    measured = reaching.measure(config, keep)
    table.show_goals(measured, console(sys.stdout))
    _write("goals", dataclasses.asdict(measured), config.output)
    return FAILED if any(check.state == "failed" for check in measured.checks) else DONE


def start(config: StartBenchmarkConfig) -> int:
    """Measure how long a command takes to its help, its plan and the first unit that it has committed."""
    from pipeline.benchmark import start as starting
    from pipeline.benchmark import table

    measured = starting.measure(config)
    table.show_start(measured, console(sys.stdout))
    return _write("start", dataclasses.asdict(measured), config.output)


def workers(config: WorkersBenchmarkConfig) -> int:
    """Measure training by one worker with all threads, and by a worker for each core."""
    from pipeline.benchmark import table
    from pipeline.benchmark import workers as working

    measured = working.measure(config)
    table.show_workers(measured, console(sys.stdout))
    return _write("workers", dataclasses.asdict(measured), config.output)


def translate(config: TranslateBenchmarkConfig) -> int:
    """Measure the plain loop, the model alone and the whole pipeline."""
    from pipeline.benchmark import table, translation

    measured = translation.measure(config)
    table.show(measured, console(sys.stdout))
    return _write("translate", table.fields(measured), config.output)


def generator(config: GeneratorBenchmarkConfig) -> int:
    """Measure one generator in every form that the device has."""
    from pipeline.benchmark import forms, table

    measured = forms.measure(config)
    table.show_forms(measured, console(sys.stdout))
    return _write("generator", dataclasses.asdict(measured), config.output)


def step(config: StepBenchmarkConfig) -> int:
    """Measure one training step of a recipe in every form that the device has."""
    from pipeline.benchmark import step as stepping
    from pipeline.benchmark import table

    measured = stepping.measure(config)
    table.show_steps(measured, console(sys.stdout))
    return _write("step", dataclasses.asdict(measured), config.output)


def engine(config: EngineBenchmarkConfig) -> int:
    """Measure how busy the engine keeps pools whose actors take a fixed time for a unit."""
    from pipeline.benchmark import engine as waiting
    from pipeline.benchmark import table

    measured = waiting.measure(config)
    table.show_engine(measured, console(sys.stdout))
    return _write("engine", dataclasses.asdict(measured), config.output)


def ingest(config: IngestBenchmarkConfig) -> int:
    """Measure the loader of a training run, in memory and streamed, against what the training step consumes."""
    from pipeline.benchmark import ingest as ingesting
    from pipeline.benchmark import table

    measured = ingesting.measure(config)
    table.show_ingest(measured, console(sys.stdout))
    return _write("ingest", dataclasses.asdict(measured), config.output)


def gpu(config: GpuBenchmarkConfig) -> int:
    """Make all checks that need a GPU, within some minutes."""
    from pipeline.benchmark import gpu as checking
    from pipeline.benchmark import table

    def keep(measured: checking.MeasuredGpu) -> None:
        _write("gpu", dataclasses.asdict(measured), config.output, shown=False)

    measured = checking.measure(config, keep)
    table.show_gpu(measured, console(sys.stdout))
    _write("gpu", dataclasses.asdict(measured), config.output)
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
