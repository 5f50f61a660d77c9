"""Steps of one unit through its stages, the same for a plain loop and for Ray Data.

A job's stages are ordinary callables. The first takes a `Unit` and returns a `Batch`, the others take and return a
`Batch`; after the last one the unit is published. A unit that fails becomes a `Receipt` that says so: it costs a unit,
not the run.

Where a work makes several parts of the same rows, the units of one range go through the stages together: the first
stage is called once for them, its batch names all of them (`Batch.beside`), and a later stage returns a batch for each.
Each is published by itself, so that a run that goes on makes only those without a commit.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from pipeline import storage, usage
from pipeline.cluster import watchdog
from pipeline.engine.publishing.apart import Apart
from pipeline.engine.publishing.commit import Sink, Span, publish
from pipeline.engine.records.account import Account, Batch, Made, batches_of
from pipeline.engine.records.layout import Output, load_unit, siblings
from pipeline.engine.records.units import Unit
from pipeline.errors import one_line
from pipeline.usage import NOTHING, Usage

log = logging.getLogger("transdomain")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Stage of a job, and the resources of one of its tasks."""

    name: str
    make: Callable[[], Callable[[Any], Made]]
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
    """All that a worker must know to carry units of one output, or of some parts of it, through their stages."""

    output: Output
    fingerprint: str
    stages: tuple[Stage, ...]
    sink: Sink
    parts: tuple[str, ...] = ("",)
    """Parts of the output whose units belong to this work. Where there are several, each is made of all rows, and the
    units of one range are made together."""
    share: float = 1.0
    """Approximate share of a unit's rows that it wants, in (0, 1]."""


class Task(NamedTuple):
    """One unit of one work of the run, with those of the other parts that are made together with it."""

    work: int
    """Position in the run's list of workloads."""
    unit: str
    """Unit of the work's first part."""


class Receipt(NamedTuple):
    """Result of one task; counts are those of all its units that this run has made."""

    task: Task
    status: Literal["done", "present", "failed"]
    """Result in a word. `present`: another run had committed the unit before work on it began."""
    inputs: int = 0
    ok: int = 0
    quarantined: int = 0
    skipped: int = 0
    error: str = ""
    usage: Usage = NOTHING
    """What the processes that worked on it have used for it, and for others of which no receipt says it."""


class InFlight(NamedTuple):
    """Task between two stages."""

    task: Task
    batches: tuple[Batch, ...]
    """One for the task's units together, or one for each."""
    started: float
    """Time when work on it began, in seconds of time.time()."""
    usage: Usage = NOTHING
    """What was used on the way to here."""
    spans: tuple[Span, ...] = ()
    """When it was in each stage before."""


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
    made: dict[int, Callable[[Any], Made]] = {}
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
        before, spans = (item.usage, item.spans) if isinstance(item, InFlight) else (NOTHING, ())
        try:
            with guard(task, stage) as carry:
                began = time.time()
                given: Sequence[Unit] | Sequence[Batch]
                if isinstance(item, InFlight):
                    given, started, beside = item.batches, item.started, None
                else:
                    units = _left(work, task)
                    if not units:
                        return Receipt(task, "present", usage=usage.take())
                    given, started, beside = units[:1], time.time(), units[1:]
                    began = started
                if carry:
                    results = (carry(stage, each) for each in _one_by_one(given))
                else:
                    with making, watchdog.patient():
                        if task.work not in made:
                            made[task.work] = stage.make()
                    stage_of = made[task.work]
                    results = (batch for each in given for batch in batches_of(stage_of(each)))
                if beside is not None:
                    results = (replace(batch, beside=beside) for batch in results)
                if index + 1 < len(work.stages):
                    batches = tuple(results)
                    spans = (*spans, Span(stage.name, began, time.time()))
                    return InFlight(task, batches, started, before.plus(usage.take()), spans)
                each = before.part(len(given))
                spans = (*spans, Span(stage.name, began, began))
                accounts = list(
                    _published(work, results, started, each, spans)
                )  # one after the other, so that few are held
        except Exception as error:  # becomes the unit's receipt; the run fails at its end
            log.debug("unit %s failed in %s", task.unit, stage.name, exc_info=error)
            why = f"unit {task.unit}, {stage.name}: {one_line(error)}"
            return Receipt(task, "failed", error=why, usage=before.plus(usage.take()))
        return Receipt(
            task,
            "done",
            sum(account.inputs for account in accounts),
            sum(account.ok for account in accounts),
            sum(len(account.quarantined) for account in accounts),
            sum(account.skipped for account in accounts),
            usage=before.plus(usage.take()),
        )

    return step


def _left(work: Workload, task: Task) -> tuple[Unit, ...]:
    """Return the units of a task that have no commit."""
    names = siblings(work.output, task.unit, len(work.parts))
    left = [i for i, name in enumerate(names) if storage.stat_file(work.output.commit(name)) is None]
    if not left:
        return ()
    unit = load_unit(work.output, task.unit)
    if not unit.part.endswith(work.parts[0]):
        raise ValueError(f"unit {unit.id} is of {unit.part}, not of {work.parts[0]}, the first part that is made")
    above = unit.part.removesuffix(work.parts[0])  # the folder of a slot
    return tuple(Unit(names[i], unit.ranges, above + work.parts[i]) for i in left)


def _one_by_one(given: Sequence[Unit] | Sequence[Batch]) -> Iterator[Unit | Batch]:
    """Yield what is given to a stage, with a batch for each unit in place of one for several."""
    for each in given:
        if isinstance(each, Unit):
            yield each
        else:
            yield from (replace(each, unit=unit, beside=()) for unit in (each.unit, *each.beside))


def _published(
    work: Workload, batches: Iterator[Batch], started: float, used: Usage, spans: Sequence[Span]
) -> Iterator[Account]:
    """Publish each batch, which has `used` so much and was in its stages at these times, and yield the accounts."""
    for batch in batches:
        if batch.beside:
            raise RuntimeError(f"no stage has made a batch for {', '.join(unit.id for unit in batch.beside)}")
        with watchdog.patient():
            account = publish(work.output, work.sink, batch, work.fingerprint, started, used, spans)
        yield account
