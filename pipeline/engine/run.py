"""Run of jobs: plan new inputs, carry every unit without a commit through its stages, and account for all units."""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from pipeline import storage, usage
from pipeline.engine.completion import finish
from pipeline.engine.completion.budget import Budget, BudgetExceededError, exceeded
from pipeline.engine.completion.tally import Tally
from pipeline.engine.estimate.drawing import Pile, pile_of, piles_left
from pipeline.engine.estimate.outcome import Came, Counted, outcome
from pipeline.engine.estimate.prices import NO_PRICES
from pipeline.engine.executors import progress
from pipeline.engine.executors.progress import Meter
from pipeline.engine.job import Job
from pipeline.engine.preflight import check_keys, check_sources
from pipeline.engine.publishing.steps import Receipt, Task, Workload
from pipeline.engine.records.account import Notes
from pipeline.engine.records.layout import (
    Output,
    check_job,
    ensure_job,
    is_finished,
    load_segments,
    unit_heads,
    unit_ids,
)
from pipeline.engine.records.units import Segment, segment_of
from pipeline.engine.segments import Planned, next_segment, plan_new_inputs
from pipeline.errors import StorageError, UserError
from pipeline.recipe import differences
from pipeline.stores.forms import shard
from pipeline.stores.mark import Totals

log = logging.getLogger("transdomain")

MAX_FAILED_UNITS = 10
"""Number of failed units at which a run ends: something is wrong that the next unit would not escape either."""

Executor = Callable[[Sequence[Workload], Sequence[Task], Meter], Iterator[Receipt]]


class IncompleteError(Exception):
    """Units that are left and could not be finished; the same command goes on with them."""


@dataclass(frozen=True)
class Outcome:
    """State of one output at the end of a run."""

    url: str
    totals: Totals
    """Counts of the run's segment where that has a label, else of the whole output."""
    fresh: bool
    """False where there was nothing left to do when the run began."""
    label: str = ""
    inputs: int = 0
    """Number of inputs, each counted once, whatever the number of parts."""
    notes: Notes = ()
    """What was noted of images while they were decoded; nothing where nothing was left to do."""
    came: Came | None = None
    """What the plan expected, and what came; None where no plan expected anything, or nothing was left to do."""


class PlannedOnly(NamedTuple):
    """Output as a run would find it, or plan it."""

    url: str
    inputs: int
    units: int
    piles: Sequence[Pile] = ()
    """Units that are to be made, where the job can tell what they cost."""


def run(jobs: Sequence[Job], execute: Executor, budget: Budget) -> list[Outcome]:
    """Bring every job's output, or its labelled segment, to completion; all units of all jobs share one execution.

    A run with a label also does what earlier runs of the same recipe left undone. A run may be killed at any time and
    started again, and two runs may work on the same outputs at once. Raises UserError before any work where an output
    cannot be used; BudgetExceededError or IncompleteError where it cannot be completed.
    """
    checked, said = set[int](), set[str]()
    planned = [_prepare(job, checked, said) for job in jobs]
    segments = [plan.segments for plan in planned]
    marked = [finish.marked_totals(job.output, s) for job, s in zip(jobs, segments, strict=True)]
    for job, plan, complete in zip(jobs, planned, marked, strict=True):
        _say_changed(job, plan.changed, complete is not None)
    tasks, tallies = list[Task](), list[Tally]()
    for job, of_job, complete in zip(jobs, segments, marked, strict=True):
        committed = job.output.committed() if complete is None else set[str]()
        if complete is None:
            first = sum(len(other.workloads) for other in jobs[: len(tallies)])
            tasks += [task._replace(work=first + task.work) for task in _pending(job, of_job, committed)]
        own = [segment for segment in _own(job, of_job) if complete is None]
        tallies.append(Tally(job.output, own, committed, skipped_are_judged=job.skipped_are_judged))
    try:
        if tasks:
            _carry_out(jobs, tasks, execute, budget, tallies)
        return [
            _complete(job, plan, total, budget, tally)
            for job, plan, total, tally in zip(jobs, planned, marked, tallies, strict=True)
        ]
    finally:
        for tally in tallies:
            tally.stop()


def plan_only(jobs: Sequence[Job]) -> list[PlannedOnly]:
    """Return, for each job, its output and the number of its inputs and units, planned or to be planned. Write nothing.

    Raises UserError where the output cannot be used.
    """
    described, checked, said = [], set[int](), set[str]()
    for job in jobs:
        check_sources(job, said)
        check_job(job.output, job.kind)
        plan, fresh = next_segment(job.output, job.request)
        segments = plan.segments
        if fresh and not job.keys_are_known:
            check_keys(job, checked, plan, fresh)
        planned = _own(job, segments)
        rows = sum(s.rows for s in planned if not s.again)
        rows += sum(units.rows for units in fresh or ()) if not job.again else 0
        units = sum(s.units for s in planned) + sum(map(len, fresh or ()))
        piles = list[Pile]()
        if job.costing:
            piles = piles_left(job.output, planned, job.output.committed()) if planned else []
            piles += map(pile_of, fresh or ())
        described.append(PlannedOnly(job.output.url, job.inputs(rows), units, piles))
    return described


def _prepare(job: Job, checked: set[int], said: set[str]) -> Planned:
    output = job.output
    check_sources(job, said)
    storage.check_output(output.url)
    check_job(output, job.kind)
    request = job.request
    found = next_segment(output, request)  # a refused request leaves no trace
    plan, fresh = found
    if fresh and not job.keys_are_known:
        check_keys(job, checked, plan, fresh)
    ensure_job(output, job.kind)
    planned = plan_new_inputs(output, request, found)
    for name, make in job.cards(planned.segments, None, None).items():
        storage.create(output.at(name), make())  # does not overwrite the cards of a run that made more progress
    return planned


def _say_changed(job: Job, changed: Sequence[storage.Entries], complete: bool) -> None:
    """Log that inputs have changed; raise UserError where the output is complete and they are not to be quarantined."""
    if not changed:
        return
    count, example = sum(map(len, changed)), changed[0][0].url
    what = f"{job.output.url}: {count} inputs have changed since they were planned, such as {example}"
    if complete and not job.set_aside_changed:
        mended = f"; {job.again_option} runs those again that were quarantined" if job.again_option else ""
        raise UserError(
            f"{what}, and what was made of them is of what they were; give another output, put them back, or add "
            f"--on_changed set_aside to leave it so{mended}"
        )
    log.warning("%s; what was made of them is of what they were, and what was not fails its unit", what)


def _own(job: Job, segments: Sequence[Segment]) -> Sequence[Segment]:
    """Return the segments that a run is about."""
    return [s for s in segments if s.label == job.label] if job.label else segments


def _pending(job: Job, segments: Sequence[Segment], committed: set[str]) -> list[Task]:
    """Return the units without a commit, each with its work's position among the job's; the run's own come first."""
    own = _own(job, segments)
    tasks = [task for segment in own for task in _left(job, segment, committed)]
    # Two runs on one output that begin at different units share the work instead of doing all of it twice.
    start = random.randrange(len(tasks)) if tasks else 0
    tasks = tasks[start:] + tasks[:start]
    others = [each for each in segments if each not in own and not differences(each.recipe, job.recipe)]
    tasks += [task for segment in others for task in _left(job, segment, committed)]
    if committed:
        left = sum(unit not in committed for segment in (*own, *others) for unit in unit_ids(segment))
        log.info("%s: %d units are committed, %d are left", job.output.url, len(committed), left)
    return tasks


def _left(job: Job, segment: Segment, committed: set[str]) -> list[Task]:
    """Return a task for each unit of a segment without a commit, or for those that are made together."""
    names = unit_ids(segment)
    left = [i for i, unit in enumerate(names) if unit not in committed]
    together = len(job.workloads[0].parts)
    if together > 1:
        return [Task(0, names[i]) for i in dict.fromkeys(i % (len(names) // together) for i in left)]
    return [Task(work, names[i]) for work, i in zip(_works_of(job, segment, left), left, strict=True)]


def _works_of(job: Job, segment: Segment, which: Sequence[int]) -> list[int]:
    """Return, for each of these units of a segment, the position of the work that makes it."""
    if len(job.workloads) == 1 or not which:
        return [0] * len(which)
    number = {work.parts[0]: i for i, work in enumerate(job.workloads)}
    parts = unit_heads(job.output, segment.number)["part"].to_pylist()
    return [number[parts[i].rsplit("/", 1)[-1]] for i in which]


def _carry_out(
    jobs: Sequence[Job], tasks: Sequence[Task], execute: Executor, budget: Budget, tallies: Sequence[Tally]
) -> None:
    """Execute all tasks; raise where the budget is exceeded or units failed.

    Units that a labelled run takes over from earlier segments may fail without failing the run.
    """
    workloads = [work for job in jobs for work in job.workloads]
    tally_of = [tally for job, tally in zip(jobs, tallies, strict=True) for _ in job.workloads]
    failures: list[str] = []
    title = " + ".join(dict.fromkeys(job.kind for job in jobs))
    planned = sum(tally.rows for tally in tallies)
    meter = Meter(title, workloads[0].stages, planned, lambda: _committed(tallies))
    for receipt in progress.shown(execute(workloads, tasks, meter), meter):
        tally = tally_of[receipt.task.work]
        if segment_of(receipt.task.unit) not in tally.segments:
            if receipt.status == "failed":
                log.warning("of an earlier slot: %s", receipt.error)
            continue
        tally.count(receipt)
        if receipt.status == "failed":
            log.warning("%s", receipt.error)
            failures.append(receipt.error)
        if len(failures) >= MAX_FAILED_UNITS:
            break
        if budget.on_budget == "stop" and (found := tally.known()):
            seen, quarantined = found
            if exceeded(budget, inputs=seen, quarantined=quarantined):
                raise BudgetExceededError(_over_budget(quarantined, seen, tally.output))
    if failures:
        raise IncompleteError(
            f"{len(failures)} of {len(tasks)} units failed, first: {failures[0]}; "
            "what is committed stays: run the same command again to go on"
        )


def _committed(tallies: Sequence[Tally]) -> tuple[int, int]:
    """Return how many rows are in commits, as far as they are read, and how many of them are quarantined."""
    found = [tally.committed for tally in tallies]
    return sum(rows for rows, _ in found), sum(quarantined for _, quarantined in found)


def _complete(job: Job, plan: Planned, marked: Totals | None, budget: Budget, tally: Tally) -> Outcome:
    """Judge what the run is about, and mark the output complete where nothing else is left in it.

    `marked` are the counts of an output that was complete before.
    """
    output, segments, own, came = job.output, plan.segments, _own(job, plan.segments), None
    notes: Notes = ()
    if marked and not job.label:
        total = marked
    else:
        total = finish.totals(manifest := finish.manifest_of(output, own, tally.manifest()), own)
    seen = total.inputs if job.skipped_are_judged else total.inputs - total.skipped
    over = exceeded(budget, inputs=seen, quarantined=total.quarantined, final=not job.set_aside_changed)
    if not marked:
        if over and budget.on_budget == "stop":
            raise BudgetExceededError(_over_budget(total.quarantined, seen, output))
        _call_complete(job, segments, manifest, tally)
        notes = finish.notes_of(manifest)
        came = outcome(own, manifest, functools.partial(_counted, job, tally), output.files_size)
    if over:
        raise BudgetExceededError(
            f"{output.url} is finished, with {total.quarantined} of {seen} images quarantined: more than the error "
            f"budget bears{_for_instance(output)}"
        )
    if plan.changed and not job.label and not job.set_aside_changed:
        raise IncompleteError(
            f"{output.url} is finished, but {sum(map(len, plan.changed))} inputs are no longer what it was made of, "
            f"such as {plan.changed[0][0].url}; put them back, give another output, or add --on_changed set_aside to "
            "leave it so"
        )
    inputs = job.inputs(total.inputs)
    return Outcome(output.url, total, fresh=not marked, label=job.label, inputs=inputs, notes=notes, came=came)


def _counted(job: Job, tally: Tally) -> Counted:
    """Return what the run has used until now: for its units, wherever they were made, and in this process."""
    tally.usage = tally.usage.plus(usage.take())
    return Counted(tally.done, tally.usage, job.costing.prices if job.costing else NO_PRICES)


def _call_complete(job: Job, segments: list[Segment], manifest: pa.Table, tally: Tally) -> None:
    """Write the derived files and the mark, unless another run's segment has units left."""
    output = job.output
    while not (unfinished := _unfinished(output, segments)):
        cards = functools.partial(_cards, job, segments, tally)
        if finish.complete(output, segments, manifest, cards, unique=job.has_unique_keys):
            return
        segments = load_segments(output)  # another run has planned more in the meantime, and may have finished it
    log.warning(
        "%s: not finished yet, to be run again with the settings that they have: %s", output.url, ", ".join(unfinished)
    )


def _cards(job: Job, segments: Sequence[Segment], tally: Tally, manifest: pa.Table) -> finish.Derived:
    return job.cards(segments, manifest, functools.partial(_counted, job, tally))


def _unfinished(output: Output, segments: Sequence[Segment]) -> list[str]:
    """Return the labels of the segments of which a unit has no commit."""
    committed = output.committed()
    return [segment.label for segment in segments if not is_finished(segment, committed)]


def _over_budget(quarantined: int, inputs: int, output: Output) -> str:
    return (
        f"stopped: {quarantined} of {inputs} images were quarantined, more than the error budget bears"
        f"{_for_instance(output)}; look at {output.url}/_quarantine, then run the same command again with a larger "
        "--budget.share or --budget.on_budget finish"
    )


def _for_instance(output: Output) -> str:
    """Return one of the quarantined rows, with its reason; empty where there is none to show."""
    shown = [e for e in storage.list_files(output.at("_quarantine"), ".parquet") if not storage.is_hidden(e.name)]
    for entry in shown[:1]:
        try:
            rows = shard.read_columns(entry.url, ["key", "reason", "message"], first=1).to_pylist()
        except StorageError as error:  # the example is optional
            log.info("%s", error)
            return ""
        for row in rows:
            return f" (such as {row['key']}: {row['reason']}: {row['message']})"
    return ""
