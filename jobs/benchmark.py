"""Measure translation, its generator, a training step, its loader or the engine against this machine's own limits."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobs.cli import DONE, FAILED, UNUSABLE, run_job
from jobs.ending import end
from pipeline import storage
from pipeline.benchmark.config import (
    EngineBenchmarkConfig,
    GeneratorBenchmarkConfig,
    GpuBenchmarkConfig,
    IngestBenchmarkConfig,
    StepBenchmarkConfig,
    TranslateBenchmarkConfig,
)
from pipeline.config import HELP, HELP_ALL
from pipeline.terminal import console, print_line, print_notice


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
    "translate": (TranslateBenchmarkConfig, translate),
    "generator": (GeneratorBenchmarkConfig, generator),
    "step": (StepBenchmarkConfig, step),
    "engine": (EngineBenchmarkConfig, engine),
    "ingest": (IngestBenchmarkConfig, ingest),
    "gpu": (GpuBenchmarkConfig, gpu),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark that the first word names, with the flags that follow."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in BENCHMARKS:
        asked_for_help = bool(arguments) and arguments[0] in (*HELP, *HELP_ALL)
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
