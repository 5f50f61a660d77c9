"""A run: plan what is new, carry every unit without a commit through its stages, and account for all of them."""

from __future__ import annotations

import functools
import itertools
import logging
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline import storage
from pipeline.engine import finish, progress
from pipeline.engine.budget import Budget, BudgetExceededError, exceeded
from pipeline.engine.plan import Limits, Range, Segment, Unit, part_of, plan_units, segment_of
from pipeline.engine.record import (
    Output,
    check_job,
    ensure_job,
    is_finished,
    load_segments,
    load_units,
    next_segment,
    plan_new_inputs,
    unit_ids,
)
from pipeline.engine.steps import Receipt, Task, Work
from pipeline.errors import UserError
from pipeline.recipe import differences
from pipeline.stores import Store, is_listed

log = logging.getLogger("transdomain")

MAX_FAILED_UNITS = 10
"""A run with so many failed units ends: something is wrong that the next unit will not escape either."""

Executor = Callable[[Sequence[Work], Sequence[Task]], Iterator[Receipt]]


class IncompleteError(Exception):
    """Units are left that could not be finished; the same command goes on with them."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One output of a run: its source, what makes it, and what is written beside the data at the end."""

    kind: str
    output: Output
    sources: Sequence[Store]
    recipe: Mapping[str, Any]
    limits: Limits
    works: Sequence[Work]
    """One for each part of the output; all have the same stages, by name and by what they take."""
    label: str = ""
    """Of the segment that this run is about; without one it is about all of them."""
    cards: Callable[[Sequence[Segment], pa.Table | None], Mapping[str, bytes]]
    """Report and cards by name, from the segments and the manifest (None at the start, when there is none yet)."""

    @property
    def ranges(self) -> list[Range]:
        """All there is to do, done or not."""
        return [piece for source in self.sources for piece in source.ranges]

    def inputs(self, rows: int) -> int:
        """How many inputs so many planned rows are: each is planned once for every part."""
        return rows // len(self.works)

    def cut(self, fresh: Sequence[Range], number: int) -> list[Unit]:
        """The units of segment `number`: of one part and one source each, so that a unit's keys are unique."""
        units = list[Unit]()
        for work in self.works:
            limits, part = self.limits.widened(work.share), part_of(self.label, work.part)
            for _, ranges in itertools.groupby(fresh, key=lambda piece: piece.source):
                units += plan_units(ranges, limits, number, first=len(units), part=part)
        return units


@dataclass(frozen=True)
class Outcome:
    """How one output stands at the end of a run."""

    url: str
    totals: finish.Totals
    """Of the run's segment where that has a label, else of the output."""
    fresh: bool
    """False where there was nothing left to do when the run began."""
    label: str = ""
    inputs: int = 0
    """How many there were, each counted once, whatever the number of parts."""


def run(jobs: Sequence[Job], execute: Executor, budget: Budget) -> list[Outcome]:
    """Bring every job's output, or its labelled segment, to completion; all units of all jobs share one execution.

    A labelled run takes along what earlier runs of the same recipe have left undone. Safe to be killed at any time and
    run again, and to be run twice at once on the same outputs. Raises UserError before any work where an output cannot
    be used; BudgetExceededError or IncompleteError where it cannot be completed.
    """
    segments = [_prepare(job) for job in jobs]
    marked = [finish.marked_totals(job.output, s) for job, s in zip(jobs, segments, strict=True)]
    works = [work for job in jobs for work in job.works]
    tasks = list[Task]()
    for i, job in enumerate(jobs):
        if marked[i] is None:
            first = sum(len(other.works) for other in jobs[:i])
            tasks += [task._replace(work=first + task.work) for task in _pending(job, segments[i])]
    if tasks:
        own = {segment.number for job, s in zip(jobs, segments, strict=True) if job.label for segment in _own(job, s)}
        _carry_out(jobs, works, tasks, execute, budget, own)
    return [_complete(job, s, total, budget) for job, s, total in zip(jobs, segments, marked, strict=True)]


def plan_only(jobs: Sequence[Job]) -> list[tuple[str, int, int]]:
    """For each job: the output, and how many inputs and units it has planned and would plan. Touches nothing.

    Raises UserError where the output cannot be used.
    """
    described = []
    for job in jobs:
        check_job(job.output, job.kind)
        _check_sources(job)
        segments, fresh = next_segment(job.output, job.ranges, job.recipe, job.cut, job.label)
        planned = _own(job, segments)
        rows = sum(s.rows for s in planned) + sum(unit.rows for unit in fresh or ())
        described.append((job.output.url, job.inputs(rows), sum(s.units for s in planned) + len(fresh or ())))
    return described


def _prepare(job: Job) -> list[Segment]:
    output = job.output
    _check_sources(job)
    storage.check_output(output.url)
    ensure_job(output, job.kind)
    segments = plan_new_inputs(output, job.ranges, job.recipe, job.cut, job.label)
    for name, data in job.cards(segments, None).items():
        storage.create(output.at(name), data)  # those of a run that came further are not written over
    return segments


def _check_sources(job: Job) -> None:
    """Raises UserError where there is nothing to do, or what is done would be taken for input."""
    empty = [source.url for source in job.sources if not source.rows]
    if len(empty) == len(job.sources):
        raise UserError(f"{', '.join(empty)}: holds no rows; there is nothing to do")
    for url in empty:
        log.warning("%s: holds no rows", url)
    made = [job.output.shard(Unit("000000-000000", (), part_of(job.label, work.part))) for work in job.works]
    made += [job.output.file(f"key.{work.sink.extension}") for work in job.works if work.sink.form == "folder"]
    for source in job.sources:
        if any(is_listed(url, source) for url in made):
            raise UserError(
                f"{job.output.url} is inside of {source.url}, where it would be taken for input; "
                "give an output beside it"
            )


def _own(job: Job, segments: Sequence[Segment]) -> Sequence[Segment]:
    """The segments that a run is about."""
    return [s for s in segments if s.label == job.label] if job.label else segments


def _pending(job: Job, segments: Sequence[Segment]) -> list[Task]:
    """The units without a commit, each with the number of its work among those of the job; the run's own come first."""
    committed = job.output.committed()
    own = _own(job, segments)
    tasks = [task for segment in own for task in _left(job, segment, committed)]
    # Two runs on one output that begin at different places share the work instead of doing all of it twice.
    start = random.randrange(len(tasks)) if tasks else 0
    tasks = tasks[start:] + tasks[:start]
    for segment in segments:
        if segment not in own and not differences(segment.recipe, job.recipe):
            tasks += _left(job, segment, committed)
    if committed:
        log.info("%s: %d units are committed, %d are left", job.output.url, len(committed), len(tasks))
    return tasks


def _left(job: Job, segment: Segment, committed: set[str]) -> list[Task]:
    """The units of a segment without a commit."""
    names = unit_ids(segment)
    left = [i for i, unit in enumerate(names) if unit not in committed]
    return [Task(work, names[i]) for work, i in zip(_works_of(job, segment, left), left, strict=True)]


def _works_of(job: Job, segment: Segment, which: Sequence[int]) -> list[int]:
    """Which of the job's works makes each of these units of a segment."""
    if len(job.works) == 1 or not which:
        return [0] * len(which)
    number = {work.part: i for i, work in enumerate(job.works)}
    units = load_units(job.output, segment.number)
    return [number[units[i].part.rsplit("/", 1)[-1]] for i in which]


def _carry_out(
    jobs: Sequence[Job],
    works: Sequence[Work],
    tasks: Sequence[Task],
    execute: Executor,
    budget: Budget,
    own: Collection[int],
) -> None:
    """Of a labelled run `own` is its segment: what else it takes along may fail without failing it."""
    seen = quarantined = 0
    failures: list[str] = []
    title = " + ".join(dict.fromkeys(job.kind for job in jobs))
    for receipt in progress.shown(execute(works, tasks), title, len(tasks)):
        if own and segment_of(receipt.task.unit) not in own:
            if receipt.status == "failed":
                log.warning("of an earlier slot: %s", receipt.error)
            continue
        seen, quarantined = seen + receipt.inputs - receipt.skipped, quarantined + receipt.quarantined
        if receipt.status == "failed":
            log.warning("%s", receipt.error)
            failures.append(receipt.error)
        if len(failures) >= MAX_FAILED_UNITS:
            break
        if budget.on_budget == "stop" and exceeded(budget, inputs=seen, quarantined=quarantined):
            raise BudgetExceededError(_over_budget(quarantined, seen, works[receipt.task.work].output.url))
    if failures:
        raise IncompleteError(
            f"{len(failures)} of {len(tasks)} units failed, first: {failures[0]}; "
            "what is committed stays: run the same command again to go on"
        )


def _complete(job: Job, segments: Sequence[Segment], marked: finish.Totals | None, budget: Budget) -> Outcome:
    """Judge what the run is about, and call the output complete where nothing else is left in it.

    `marked` are the counts of an output that was complete before.
    """
    output, own = job.output, _own(job, segments)
    if marked and not job.label:
        return Outcome(output.url, marked, fresh=False, inputs=job.inputs(marked.inputs))
    manifest = finish.manifest_of(output, own)
    total = finish.totals(manifest)
    if marked:
        return Outcome(output.url, total, fresh=False, label=job.label, inputs=job.inputs(total.inputs))
    seen = total.inputs - total.skipped
    over = exceeded(budget, inputs=seen, quarantined=total.quarantined)
    if over and budget.on_budget == "stop":
        raise BudgetExceededError(_over_budget(total.quarantined, seen, output.url))
    while not (unfinished := _unfinished(output, segments)):
        if finish.complete(output, segments, manifest, functools.partial(job.cards, segments)):
            break
        segments = load_segments(output)  # somebody has planned more meanwhile, and may have done it, too
    else:
        log.warning(
            "%s: not finished yet, to be run again with the settings that they have: %s",
            output.url,
            ", ".join(unfinished),
        )
    if over:
        raise BudgetExceededError(
            f"{output.url} is finished, with {total.quarantined} of {seen} images set aside: more than the budget bears"
        )
    return Outcome(output.url, total, fresh=True, label=job.label, inputs=job.inputs(total.inputs))


def _unfinished(output: Output, segments: Sequence[Segment]) -> list[str]:
    """The labels of the segments of which a unit has no commit."""
    committed = output.committed()
    return [segment.label for segment in segments if not is_finished(segment, committed)]


def _over_budget(quarantined: int, inputs: int, url: str) -> str:
    return (
        f"stopped: {quarantined} of {inputs} images were set aside, more than the error budget bears; look at "
        f"{url}/_quarantine, then run the same command again with a larger --budget.share or --budget.on_budget finish"
    )
