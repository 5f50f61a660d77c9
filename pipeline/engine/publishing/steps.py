"""One unit through its stages: the same steps whether a plain loop or Ray Data takes them.

A job's stages are ordinary callables. The first takes a `Unit` and gives a `Batch`, the others take and give a
`Batch`; after the last one the unit is published. A unit that fails is a `Receipt` that says so: it costs a unit, not
the run.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pipeline import storage
from pipeline.engine.publishing.commit import Sink, publish
from pipeline.engine.records.account import Batch
from pipeline.engine.records.layout import Output, load_unit
from pipeline.errors import one_line

log = logging.getLogger("transdomain")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A step of a job and what one task of it takes."""

    name: str
    make: Callable[[], Callable[[Any], Batch]]
    """Called once in each process that runs the stage, where models are loaded; must be picklable."""
    cpus: float = 1.0
    gpus: float = 0.0
    actors: tuple[int, int] | None = None
    """Smallest and largest pool of actors that keep what `make` gave; None for tasks."""
    stall_s: float
    """Seconds without a finished row after which its process is ended (on Ray)."""
    cpus_option: str = ""
    """Option of the command line that sets `cpus`, for advice."""
    actors_option: str = ""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a worker must know to carry units of one output, or of one part of it, through."""

    output: Output
    fingerprint: str
    stages: tuple[Stage, ...]
    sink: Sink
    part: str = ""
    """Which of a job's units are its: those of this part."""
    share: float = 1.0
    """About how many of a unit's rows it wants, in (0, 1]."""


class Task(NamedTuple):
    """One unit of one of the run's works."""

    work: int
    """Position in the run's list of `Work`."""
    unit: str


class Receipt(NamedTuple):
    """How one unit ended."""

    task: Task
    status: Literal["done", "present", "failed"]
    """`present`: somebody else had committed it before work on it began."""
    inputs: int = 0
    ok: int = 0
    quarantined: int = 0
    skipped: int = 0
    error: str = ""


class InFlight(NamedTuple):
    """A unit between two stages."""

    task: Task
    batch: Batch
    started: float
    """Seconds of time.time() when work on it began."""


Step = Callable[[Any], InFlight | Receipt]

Guard = Callable[[Task, Stage], AbstractContextManager[None]]
"""Around all work of a stage on a unit, up to its commit."""


def unguarded(task: Task, stage: Stage) -> AbstractContextManager[None]:
    """The guard of a process that the user sees end."""
    return contextlib.nullcontext()


def make_step(works: list[Work], index: int, guard: Guard = unguarded) -> Step:
    """The step number `index` of a run: `Task | InFlight | Receipt -> InFlight | Receipt`.

    All works of a run have the same number of stages. What a stage's `make` gives is made once for each work, when
    its first unit comes. Receipts pass through untouched.
    """
    made: dict[int, Callable[[Any], Batch]] = {}

    def step(item: Task | InFlight | Receipt) -> InFlight | Receipt:
        if isinstance(item, Receipt):
            return item
        task = item.task if isinstance(item, InFlight) else item
        work = works[task.work]
        stage = work.stages[index]
        try:
            with guard(task, stage):
                if task.work not in made:
                    made[task.work] = stage.make()
                if isinstance(item, InFlight):
                    started = item.started
                    batch = made[task.work](item.batch)
                else:
                    if storage.stat_file(work.output.commit(task.unit)) is not None:
                        return Receipt(task, "present")
                    started = time.time()
                    batch = made[task.work](load_unit(work.output, task.unit))
                if index + 1 < len(work.stages):
                    return InFlight(task, batch, started)
                account = publish(work.output, work.sink, batch, work.fingerprint, started)
        except Exception as error:  # becomes the unit's receipt, which fails the job at its end
            log.debug("unit %s failed in %s", task.unit, stage.name, exc_info=error)
            return Receipt(task, "failed", error=f"unit {task.unit}, {stage.name}: {one_line(error)}")
        return Receipt(task, "done", account.inputs, account.ok, len(account.rejected), account.skipped)

    return step
