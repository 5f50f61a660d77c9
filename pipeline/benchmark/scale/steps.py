"""One step over a large corpus, in a process of its own: `python -m pipeline.benchmark.scale.steps STEP SOURCE OUTPUT`.

The last line that it prints is JSON: seconds, and the most memory that the process has held, in megabytes (10⁶ bytes).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from pipeline.benchmark.basis.checks import most_mb
from pipeline.benchmark.scale import corpus
from pipeline.engine.completion.budget import Budget
from pipeline.engine.executors.progress import Meter
from pipeline.engine.job import Job
from pipeline.engine.publishing.steps import Receipt, Task, Workload
from pipeline.engine.records.layout import load_segments, load_unit, unit_ids
from pipeline.engine.run import run
from pipeline.terminal import print_line
from pipeline.verify.job import verify

_WORKER_UNITS = 500


class _PlannedError(Exception):
    """End of a run that was to plan only."""


def plan(job: Job) -> None:
    """Do all that a run does up to its first unit: read footers, plan, look for commits."""
    try:
        run([job], _stop, Budget())
    except _PlannedError:
        return
    raise RuntimeError(f"{job.output.url}: nothing was left to do, and a plan was to be measured")


def _stop(workloads: Sequence[Workload], tasks: Sequence[Task], meter: Meter) -> Iterator[Receipt]:
    raise _PlannedError


def finish(job: Job) -> None:
    """Do all that a run does when every unit is committed: manifest, keys, report, mark."""
    (outcome,) = run([job], _stop, Budget())
    if not outcome.fresh:
        raise RuntimeError(f"{job.output.url}: was complete already, and its completion was to be measured")


def again(job: Job) -> None:
    """Run a job that is complete already."""
    (outcome,) = run([job], _stop, Budget())
    if outcome.fresh:
        raise RuntimeError(f"{job.output.url}: was not complete")


def check(job: Job) -> None:
    """Verify the output, without its source."""
    if faults := verify(job.output.url, source=False).faults:
        raise RuntimeError(f"{job.output.url}: {faults[0]}")


def work(job: Job) -> None:
    """Load units from all over the plan, as a worker does."""
    units = [unit for segment in load_segments(job.output) for unit in unit_ids(segment)]
    for number in np.linspace(0, len(units) - 1, _WORKER_UNITS).astype(int):
        load_unit(job.output, units[number])


STEPS: Mapping[str, Callable[[Job], None]] = {
    "plan": plan,
    "resume": plan,
    "finish": finish,
    "again": again,
    "verify": check,
    "worker": work,
}


def main(step: str, source: str, output: str) -> None:
    """Do a step, and print what it took: seconds in all, and those to open the source, which is to list it."""
    began = time.perf_counter()
    job = corpus.job_of(source, output)
    opened, before_mb = time.perf_counter(), most_mb()
    STEPS[step](job)
    seconds = time.perf_counter() - began
    print_line(json.dumps({"seconds": seconds, "opening_s": opened - began, "mb": most_mb(), "before_mb": before_mb}))


if __name__ == "__main__":
    main(*sys.argv[1:])
