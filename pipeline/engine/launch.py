"""Launch of engine jobs: choose the executor, and print the plan or the outcome."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from pipeline import storage, usage
from pipeline.cluster.reach import check_reach
from pipeline.engine.completion.budget import Budget
from pipeline.engine.estimate.prices import NO_PRICES
from pipeline.engine.estimate.tables import Rows, forecast_rows, inputs_rows, outcome_rows
from pipeline.engine.executors import local
from pipeline.engine.executors.progress import Meter
from pipeline.engine.job import Job
from pipeline.engine.publishing.steps import Receipt, Task, Workload
from pipeline.engine.run import Executor, Outcome, PlannedOnly, plan_only, run
from pipeline.engine.segments import OtherRecipeError
from pipeline.errors import UserError
from pipeline.terminal import aligned, print_line, print_lines

log = logging.getLogger("transdomain")

T = TypeVar("T")


class EngineOptions(Protocol):
    """Part of a job's configuration that decides how the engine runs."""

    @property
    def budget(self) -> Budget: ...
    @property
    def local(self) -> bool: ...
    @property
    def dry_run(self) -> bool: ...
    @property
    def shared_disk(self) -> bool: ...


class Computing:
    """Processes like those in which the stages of a job run, for what has to be found out before it is planned.

    Leave it (it is a context) once the job has run: Ray stays started, or joined, from the first use on.
    """

    def __init__(self, options: EngineOptions, urls: Sequence[str]) -> None:
        """Take the options of the job, and the URLs that its processes have to reach."""
        self._options, self._urls, self._connected = options, urls, contextlib.ExitStack()

    def __enter__(self) -> Computing:
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._connected.__exit__(*error)

    def __call__(self, function: Callable[[int], T], *, device: str, cpus: float | None, gpus: float | None) -> T:
        """Call `function` where the translating actors will run: in this process, or in a task on Ray.

        It is given the number of actors that a pool has by default. The task books `cpus` (None for 1), and `gpus`
        (None for one where there are any and `device` is not cpu). Returns what `function` returns, and raises what it
        raises.
        """
        if self._options.local:
            return function(1)
        check_urls(self._urls, self._options)
        from pipeline.cluster import connection
        from pipeline.engine.executors import ray_task

        self._connected.enter_context(connection.connect())
        return ray_task.call(function, device=device, cpus=cpus, gpus=gpus)


def run_engine(make: Callable[[], Sequence[Job]], options: EngineOptions, reads: Sequence[str] = ()) -> list[Outcome]:
    """Run the jobs that `make` returns to their end, on Ray or in this process, and print a line for each output.

    `reads` are URLs that the stages read besides the sources, such as a model's. `make` is called again where another
    run has begun an output since it was called: what it measured then gives way to what that run has recorded.

    Raises what `pipeline.engine.run.run` raises, and UserError where Ray's workers cannot see one of the URLs.
    """
    usage.take()  # what was used before is of no run
    jobs = make()
    if options.dry_run:
        for job, planned in zip(jobs, plan_only(jobs), strict=True):
            how = " or more, by the speed of the model, which is measured first" if job.cut_by_rate else ""
            print_line(f"would write {planned.url}: {planned.inputs} inputs in {planned.units} units{how}")
            if job.costing:
                _tell_forecast(job, planned)
        print_line(memory_line(jobs))
        return []
    execute: Executor = local.execute
    if not options.local:
        sources = [store.url for job in jobs for store in job.sources.values()]
        check_urls([job.output.url for job in jobs] + sources + list(reads), options)
        execute = on_ray_cluster
    while True:
        try:
            outcomes = run(jobs, execute, options.budget)
            break
        except OtherRecipeError as error:
            again = make()
            if [job.recipe for job in again] == [job.recipe for job in jobs]:
                raise
            log.info("another run has begun it meanwhile: %s; going on with what that one recorded", error)
            jobs = again
    for job, outcome in zip(jobs, outcomes, strict=True):
        print_line(describe(outcome))
        for note, count in sorted(outcome.notes, key=lambda each: -each[1]):
            print_line(f"  noted of {count:,} images: {note}")
        prices = job.costing.prices if job.costing else NO_PRICES
        # Without a sample or a price nobody has asked; the report has the table in any case.
        if outcome.came and (prices.are_given or outcome.came.expected.bytes_out is not None):
            _print_rows(outcome_rows(outcome.came, prices))
    return outcomes


def _tell_forecast(job: Job, planned: PlannedOnly) -> None:
    """Print what the units that are left will take."""
    assert job.costing is not None
    if not (units := sum(pile.units for pile in planned.piles)):
        print_line("nothing is left to do")
        return
    if units < planned.units:
        print_line(f"{units} units are left; the following is of those")
    forecast = job.forecast(planned.piles, looks=True)
    if inputs := inputs_rows(forecast):
        _print_rows(inputs)
    _print_rows(forecast_rows(forecast, job.costing.prices))


def _print_rows(rows: Rows) -> None:
    """Print rows with their columns aligned: names to the left, amounts to the right, remarks to the left again."""
    table = [rows.head, *rows.body] if any(rows.head) else rows.body
    print_lines(aligned(table, [0 < i < rows.amounts for i in range(len(rows.head))]))
    if rows.note:
        print_line(f"  {rows.note}")


def memory_line(jobs: Sequence[Job]) -> str:
    """Return one line about the memory that a process of the jobs takes."""
    stages = jobs[0].workloads[0].stages
    most = max(stage.memory / stage.at_once for stage in stages)
    besides = ", and one that translates the model's beside it" if any(stage.actors for stage in stages) else ""
    return f"a process takes up to {most / 1e9:.2g} GB of memory (--limits.decoded_mb){besides}"


def check_urls(urls: Sequence[str], options: EngineOptions) -> None:
    """Raise UserError where Ray's workers cannot see one of the URLs."""
    for url in urls:
        if storage.is_memory(url):
            raise UserError(f"{url}: memory:// is seen by one process alone, and Ray's workers are others; add --local")
    check_reach(urls, shared_disk=options.shared_disk)


def on_ray_cluster(workloads: Sequence[Workload], tasks: Sequence[Task], meter: Meter) -> Iterator[Receipt]:
    """Run the engine on Ray Data, on a cluster that is joined or started for it."""
    # Imported here: a plain loop, and a run that has nothing left to do, need no Ray, whose import alone takes seconds.
    from pipeline.cluster import connection
    from pipeline.engine.executors import ray_data

    with connection.connect():
        yield from ray_data.execute(workloads, tasks, meter)


def describe(outcome: Outcome) -> str:
    """Return one line: the output, its counts, and whether this run had anything to do."""
    total = outcome.totals
    state = "complete" if outcome.fresh else "was complete already, nothing to do"
    skipped = f", {total.skipped} skipped" if total.skipped else ""
    further = f", {total.further} more rows for further pictures in them" if total.further else ""
    if outcome.label or outcome.inputs != total.inputs:
        how = " (an input once for each translator)" if total.quarantined or (skipped and not outcome.label) else ""
        made = f"{total.ok} images of {outcome.inputs} inputs, {total.quarantined} quarantined"
        if outcome.label:
            return f"{outcome.url}, slot {outcome.label}: {state}: {made}{how}"
        return f"{outcome.url}: {state}: {made}{skipped}{how}"
    counted = f"{total.ok} ok, {total.quarantined} quarantined{skipped} of {total.inputs} inputs{further}"
    return f"{outcome.url}: {state}: {counted}"
