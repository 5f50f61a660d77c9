"""A run: plan what is new, carry every unit without a commit through its stages, and account for all of them."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline import storage
from pipeline.engine import finish, progress
from pipeline.engine.budget import Budget, BudgetExceededError, exceeded
from pipeline.engine.plan import Limits, Segment, plan_units
from pipeline.engine.record import ensure_job, load_segments, plan_new_inputs, require_same_recipe, unit_ids
from pipeline.engine.steps import Receipt, Task, Work
from pipeline.errors import UserError
from pipeline.stores import Store

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
    source: Store
    recipe: Mapping[str, Any]
    limits: Limits
    work: Work
    cards: Callable[[Sequence[Segment], pa.Table | None], Mapping[str, bytes]]
    """Report and cards by name, from the segments and the manifest (None at the start, when there is none yet)."""


@dataclass(frozen=True)
class Outcome:
    """How one output stands at the end of a run."""

    url: str
    totals: finish.Totals
    fresh: bool
    """False where the output was complete before the run began."""


def run(jobs: Sequence[Job], execute: Executor, budget: Budget) -> list[Outcome]:
    """Bring every job's output to completion; all units of all jobs share one execution.

    Safe to be killed at any time and run again, and to be run twice at once on the same outputs. Raises UserError
    before any work where an output cannot be used; BudgetExceededError or IncompleteError where it cannot be
    completed.
    """
    segments = [_prepare(job) for job in jobs]
    done = [finish.marked_totals(job.work.output, s) for job, s in zip(jobs, segments, strict=True)]
    tasks = [Task(i, unit) for i, job in enumerate(jobs) if done[i] is None for unit in _pending(job, segments[i])]
    if tasks:
        _carry_out(jobs, tasks, execute, budget)
    return [
        _complete(job, s, budget) if total is None else Outcome(job.work.output.url, total, fresh=False)
        for job, s, total in zip(jobs, segments, done, strict=True)
    ]


def plan_only(jobs: Sequence[Job]) -> list[tuple[str, int, int]]:
    """For each job: the output, and how many rows and units a run would plan. Touches nothing."""
    described = []
    for job in jobs:
        segments = load_segments(job.work.output)
        if segments:
            require_same_recipe(job.work.output, segments[-1].recipe, job.recipe)
            units, rows = sum(s.units for s in segments), sum(s.rows for s in segments)
        else:
            planned = list(plan_units(job.source.ranges, job.limits))
            units, rows = len(planned), sum(unit.rows for unit in planned)
        described.append((job.work.output.url, rows, units))
    return described


def _prepare(job: Job) -> list[Segment]:
    output = job.work.output
    if not job.source.rows:
        raise UserError(f"{job.source.url}: holds no rows; there is nothing to do")
    storage.check_output(output.url)
    ensure_job(output, job.kind)
    segments = plan_new_inputs(output, job.source, job.recipe, job.limits)
    if not storage.exists(output.success):
        for name, data in job.cards(segments, None).items():
            storage.replace(output.at(name), data)
    return segments


def _pending(job: Job, segments: Sequence[Segment]) -> list[str]:
    committed = job.work.output.committed()
    pending = [unit for segment in segments for unit in unit_ids(segment) if unit not in committed]
    if committed:
        log.info("%s: %d units are committed, %d are left", job.work.output.url, len(committed), len(pending))
    # Two runs on one output that begin at different places share the work instead of doing all of it twice.
    start = random.randrange(len(pending)) if pending else 0
    return pending[start:] + pending[:start]


def _carry_out(jobs: Sequence[Job], tasks: Sequence[Task], execute: Executor, budget: Budget) -> None:
    works = [job.work for job in jobs]
    inputs = quarantined = 0
    failures: list[str] = []
    title = " + ".join(dict.fromkeys(job.kind for job in jobs))
    for receipt in progress.shown(execute(works, tasks), title, len(tasks)):
        inputs, quarantined = inputs + receipt.inputs, quarantined + receipt.quarantined
        if receipt.status == "failed":
            log.warning("%s", receipt.error)
            failures.append(receipt.error)
        if len(failures) >= MAX_FAILED_UNITS:
            break
        if budget.on_budget == "stop" and exceeded(budget, inputs=inputs, quarantined=quarantined):
            raise BudgetExceededError(_over_budget(quarantined, inputs, works[receipt.task.work].output.url))
    if failures:
        raise IncompleteError(
            f"{len(failures)} of {len(tasks)} units failed, first: {failures[0]}; "
            "what is committed stays: run the same command again to go on"
        )


def _complete(job: Job, segments: Sequence[Segment], budget: Budget) -> Outcome:
    output = job.work.output
    units = [unit for segment in segments for unit in unit_ids(segment)]
    manifest = finish.manifest_table(finish.read_commits(output, units))
    total = finish.totals(manifest)
    over = exceeded(budget, inputs=total.inputs, quarantined=total.quarantined)
    if over and budget.on_budget == "stop":
        raise BudgetExceededError(_over_budget(total.quarantined, total.inputs, output.url))
    finish.complete(output, segments, manifest, lambda: job.cards(segments, manifest))
    if over:
        raise BudgetExceededError(
            f"{output.url} is finished, with {total.quarantined} of {total.inputs} images set aside: more than the "
            "budget bears"
        )
    return Outcome(output.url, total, fresh=True)


def _over_budget(quarantined: int, inputs: int, url: str) -> str:
    return (
        f"stopped: {quarantined} of {inputs} images were set aside, more than the error budget bears; look at "
        f"{url}/_quarantine, then run the same command again with a larger --budget.share or --budget.on_budget finish"
    )
