"""Steps of one unit through its stages, the same for a plain loop and for Ray Data.

A job's stages are ordinary callables. The first takes a `Unit` and returns a `Batch`, the others take and return a
`Batch`; after the last one the unit is published. A unit that fails becomes a `Receipt` that says so: it costs a unit,
not the run.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pipeline import storage
from pipeline.cluster import watchdog
from pipeline.engine.publishing.apart import Apart
from pipeline.engine.publishing.commit import Sink, publish
from pipeline.engine.records.account import Batch
from pipeline.engine.records.layout import Output, load_unit
from pipeline.engine.records.units import Unit
from pipeline.errors import one_line

log = logging.getLogger("transdomain")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Stage of a job, and the resources of one of its tasks."""

    name: str
    make: Callable[[], Callable[[Any], Batch]]
    """Factory that is called once in each process that runs the stage, where models are loaded; must be picklable."""
    cpus: float | None = 1.0
    """None, for a pool alone, leaves it to the cluster's nodes."""
    gpus: float = 0.0
    memory: int = 0
    """Bytes that one task, or actor, takes at most, besides a model's."""
    actors: tuple[int | None, int | None] | None = None
    """Smallest and largest pool of actors that keep what `make` returned; None for tasks. A None in it leaves that
    number to the cluster's nodes."""
    at_once: int = 1
    """Units that one actor of a pool works on at once, in threads, so that its device need not wait while a unit is
    taken apart or put together."""
    stall_s: float
    """Seconds without a finished row, after which the stage's process is ended (on Ray)."""
    apart: Apart | None = None
    """How rows that end or hang their process are found (on Ray); None where the whole unit fails for them."""
    cpus_option: str = ""
    """Command-line option that sets `cpus`, for advice."""
    actors_option: str = ""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """All that a worker must know to carry units of one output, or of one part of it, through their stages."""

    output: Output
    fingerprint: str
    stages: tuple[Stage, ...]
    sink: Sink
    part: str = ""
    """Part of the output whose units belong to this work."""
    share: float = 1.0
    """Approximate share of a unit's rows that it wants, in (0, 1]."""


class Task(NamedTuple):
    """One unit of one work of the run."""

    work: int
    """Position in the run's list of workloads."""
    unit: str


class Receipt(NamedTuple):
    """Result of one unit."""

    task: Task
    status: Literal["done", "present", "failed"]
    """Result in a word. `present`: another run had committed the unit before work on it began."""
    inputs: int = 0
    ok: int = 0
    quarantined: int = 0
    skipped: int = 0
    error: str = ""


class InFlight(NamedTuple):
    """Unit between two stages."""

    task: Task
    batch: Batch
    started: float
    """Time when work on it began, in seconds of time.time()."""


Step = Callable[[Any], InFlight | Receipt]

Carry = Callable[[Stage, Unit | Batch], Batch]
"""Another way to carry a unit through a stage than to call what the stage made."""

Guard = Callable[[Task, Stage], AbstractContextManager[Carry | None]]
"""Context around all work of a stage on a unit, up to its commit; it may say how else to carry it."""


def unguarded(task: Task, stage: Stage) -> AbstractContextManager[None]:
    """Return the guard for a process whose end the user sees."""
    return contextlib.nullcontext()


def make_step(workloads: list[Workload], index: int, guard: Guard = unguarded, *, ahead: bool = False) -> Step:
    """Return step number `index` of a run: `Task | InFlight | Receipt -> InFlight | Receipt`.

    All works of a run have the same number of stages. A stage's `make` is called once for each work, when the work's
    first unit comes; for the first work in a thread at once, where it is to be `ahead` of the units. If that fails, it
    is tried again when a unit comes, which then fails. Receipts pass through untouched.
    """
    made: dict[int, Callable[[Any], Batch]] = {}
    making = threading.Lock()

    def make_first() -> None:
        with making, contextlib.suppress(Exception):  # a unit's own attempt will say so
            made[0] = workloads[0].stages[index].make()

    if ahead:
        thread = threading.Thread(target=make_first, name="ahead", daemon=True)
        thread.start()

    def step(item: Task | InFlight | Receipt) -> InFlight | Receipt:
        if isinstance(item, Receipt):
            return item
        task = item.task if isinstance(item, InFlight) else item
        work = workloads[task.work]
        stage = work.stages[index]
        try:
            with guard(task, stage) as carry:
                given: Unit | Batch
                if isinstance(item, InFlight):
                    given, started = item.batch, item.started
                else:
                    if storage.stat_file(work.output.commit(task.unit)) is not None:
                        return Receipt(task, "present")
                    given, started = load_unit(work.output, task.unit), time.time()
                if carry:
                    batch = carry(stage, given)
                else:
                    with making, watchdog.patient():
                        if task.work not in made:
                            made[task.work] = stage.make()
                    batch = made[task.work](given)
                if index + 1 < len(work.stages):
                    return InFlight(task, batch, started)
                with watchdog.patient():
                    account = publish(work.output, work.sink, batch, work.fingerprint, started)
        except Exception as error:  # becomes the unit's receipt; the run fails at its end
            log.debug("unit %s failed in %s", task.unit, stage.name, exc_info=error)
            return Receipt(task, "failed", error=f"unit {task.unit}, {stage.name}: {one_line(error)}")
        return Receipt(task, "done", account.inputs, account.ok, len(account.quarantined), account.skipped)

    return step
