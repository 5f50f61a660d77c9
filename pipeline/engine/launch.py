"""Launch of engine jobs: choose the executor, and print the plan or the outcome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from pipeline import storage
from pipeline.cluster.reach import check_reach
from pipeline.engine.completion.budget import Budget
from pipeline.engine.executors import local
from pipeline.engine.job import Job
from pipeline.engine.publishing.steps import Receipt, Task, Workload
from pipeline.engine.run import Outcome, plan_only, run
from pipeline.errors import UserError
from pipeline.terminal import print_line


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


def run_engine(jobs: Sequence[Job], options: EngineOptions, reads: Sequence[str] = ()) -> list[Outcome]:
    """Run `jobs` to their end, on Ray or in this process, and print a line for each output.

    `reads` are URLs that the stages read besides the sources, such as a model's.

    Raises what `pipeline.engine.run.run` raises, and UserError where Ray's workers cannot see one of the URLs.
    """
    if options.dry_run:
        for url, inputs, units in plan_only(jobs):
            print_line(f"would write {url}: {inputs} inputs in {units} units")
        return []
    if options.local:
        outcomes = run(jobs, local.execute, options.budget)
    else:
        urls = (
            [job.output.url for job in jobs]
            + [store.url for job in jobs for store in job.sources.values()]
            + list(reads)
        )
        for url in urls:
            if storage.is_memory(url):
                raise UserError(
                    f"{url}: memory:// is seen by one process alone, and Ray's workers are others; add --local"
                )
        check_reach(urls, shared_disk=options.shared_disk)
        outcomes = run(jobs, on_ray_cluster, options.budget)
    for outcome in outcomes:
        print_line(describe(outcome))
    return outcomes


def on_ray_cluster(workloads: Sequence[Workload], tasks: Sequence[Task]) -> Iterator[Receipt]:
    """Run the engine on Ray Data, on a cluster that is joined or started for it."""
    # Imported here: a plain loop, and a run that has nothing left to do, need no Ray, whose import alone takes seconds.
    from pipeline.cluster import connection
    from pipeline.engine.executors import ray_data

    with connection.connect():
        yield from ray_data.execute(workloads, tasks)


def describe(outcome: Outcome) -> str:
    """Return one line: the output, its counts, and whether this run had anything to do."""
    total = outcome.totals
    state = "complete" if outcome.fresh else "was complete already, nothing to do"
    if outcome.label:
        how = " (an input once for each translator)" if total.quarantined else ""
        made = f"{total.ok} images of {outcome.inputs} inputs, {total.quarantined} quarantined{how}"
        return f"{outcome.url}, slot {outcome.label}: {state}: {made}"
    skipped = f", {total.skipped} skipped" if total.skipped else ""
    return f"{outcome.url}: {state}: {total.ok} ok, {total.quarantined} quarantined{skipped} of {total.inputs} inputs"
