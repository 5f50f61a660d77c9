"""Measure translation against this machine's own limits and against a plain loop, all in one run."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console

from jobs.cli import DONE, UNUSABLE, run_job
from pipeline import storage
from pipeline.benchmark import table, translation
from pipeline.config.benchmark import TranslateBenchmarkConfig

NAMES = ("translate",)


def translate(config: TranslateBenchmarkConfig) -> int:
    """Measure, print, and write the numbers where that is asked for."""
    measured = translation.measure(config)
    table.show(measured, Console())
    if config.output is not None:
        url = storage.join(storage.absolute(config.output), "benchmark_translate.json")
        storage.replace(url, table.as_json(measured))
        print(f"numbers: {url}")
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """The first word names the benchmark; its flags follow."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in NAMES:
        asked_for_help = arguments[:1] in (["-h"], ["--help"])
        line = f"benchmark: name one of {', '.join(NAMES)}, as in: python -m jobs.benchmark {NAMES[0]} --help"
        print(line, file=sys.stdout if asked_for_help else sys.stderr)
        return DONE if asked_for_help else UNUSABLE
    return run_job(
        TranslateBenchmarkConfig, translate, name="benchmark translate", description=__doc__ or "", argv=arguments[1:]
    )


if __name__ == "__main__":
    sys.exit(main())
