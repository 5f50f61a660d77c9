"""Engine on Ray Data: one execution per run, one unit per block, from the read to the commit.

The only module that imports `ray.data`. Its design:

- Unit names enter in large blocks and are repartitioned to one per block. One task of Ray's own, which books no
  resources, does this for 50,000 units in seconds (`ray_internals.one_row_a_block`). A few enter as they are, since
  that task's process takes seconds to start.
- A block between two stages is one row (`blocks.py`), so nothing in Ray can split, merge or drop it.
- Ray Data fuses neighbouring stages whose options agree. Stages must not share a process, so their options always
  differ, if only by an option that is set to its default.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.cluster import connection, memory, ray_internals, watchdog
from pipeline.engine.executors.blocks import decode_receipt, from_block, to_block
from pipeline.engine.executors.flow import EMPTY, Flow, Snapshot
from pipeline.engine.executors.halving import in_halves
from pipeline.engine.executors.metrics import counted
from pipeline.engine.executors.placement import Demand, check_placement, demand_of, sized, waiting_line
from pipeline.engine.executors.progress import Meter
from pipeline.engine.publishing.steps import (
    Carry,
    Guard,
    InFlight,
    Receipt,
    Stage,
    Task,
    Workload,
    make_step,
    unguarded,
)

_UNITS_PER_INPUT_BLOCK = 1000
_FEW_UNITS = 256
"""Units, at most, that the driver makes a block each for."""

_ANSWER_WITHIN_S = 5.0
"""Seconds within which the account of the units answers; on a busy machine it may miss a look."""

_IDLE_S = 30.0
"""Seconds without a unit at work, after which the driver checks whether other jobs hold the resources."""

_log = logging.getLogger("transdomain")


def execute(workloads: Sequence[Workload], tasks: Sequence[Task], meter: Meter) -> Iterator[Receipt]:
    """Carry every task through every stage on the connected cluster; yield a receipt as each unit ends.

    `meter` is told how to look at the units in between.

    Raises UserError where the pools, and next to them a task of every other stage, may not find their resources.
    """
    nodes = connection.nodes()
    workloads = [replace(work, stages=tuple(sized(stage, nodes) for stage in work.stages)) for work in workloads]
    demands = [demand_of(stage) for stage in workloads[0].stages]
    check_placement(demands, nodes)
    # On the driver's node: if that is lost, everything else is lost, too.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    lasting = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}  # after a restart it counts from zero
    last = workloads[0].stages[-1].name
    ledger: Any = ray.remote(_Ledger).options(**lasting, scheduling_strategy=here).remote(last)
    one_machine = contextlib.nullcontext() if connection.joins() else ray_internals.data_on_one_machine()
    try:
        with _told_of_waiting(demands, ledger), one_machine:
            meter.look = functools.partial(_look, ledger)
            dataset = build(workloads, tasks, _guard(ledger), placed=lambda: ledger.note_placed.remote())
            for receipt in counted(_receipts(dataset), workloads, tasks):
                ledger.forget.remote(*receipt.task)
                yield receipt
            _look(ledger)  # when it answers, nothing is on its way to it, and no call fails with its end
    finally:
        meter.look = lambda ended: EMPTY
        ray.kill(ledger)


def _look(ledger: Any, ended: Sequence[Task] = ()) -> Snapshot:
    """Return where the units are that have not ended; nothing while the cluster is silent, which the run reports."""
    try:
        found: Snapshot = ray.get(ledger.snapshot.remote(ended), timeout=_ANSWER_WITHIN_S)
        return found
    except ray.exceptions.RayError:
        return EMPTY


@contextlib.contextmanager
def _told_of_waiting(demands: Sequence[Demand], ledger: Any) -> Iterator[None]:
    """Log now and then, inside the block, that nothing is at work because other jobs hold the resources."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(_IDLE_S):
            with contextlib.suppress(ray.exceptions.RayError):  # the run itself reports the loss
                idle_s, placed = ray.get(ledger.idle.remote())
                wanted = [demand for demand in demands if not (demand.actors and placed)]
                line = waiting_line(wanted, connection.nodes(), connection.free())
                if idle_s >= _IDLE_S and line:
                    _log.warning(line)

    thread = threading.Thread(target=look, name="waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def _receipts(dataset: ray.data.Dataset) -> Iterator[Receipt]:
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        assert isinstance(table, pa.Table)
        yield from map(decode_receipt, table["receipt"].to_pylist())


class _Ledger:
    """Account of the units at work: where each is, and how many processes it has ended there.

    A process has ended in a unit that was begun in a stage, and never ended.
    """

    def __init__(self, last: str) -> None:
        """Create the account of a run whose last stage has this name."""
        self._flow = Flow(last)
        self._begun: Counter[tuple[int, str, str]] = Counter()
        self._settled = False
        self._last = time.monotonic()
        """Time of the last begin or end."""

    def note_placed(self) -> None:
        """Note that an actor of a pool has its resources."""
        self._settled = True

    def idle(self) -> tuple[float, bool]:
        """Return the seconds since a unit was at work, and whether an actor of a pool has ever had its resources."""
        return (0.0 if self._begun else time.monotonic() - self._last), self._settled

    def deaths(self, work: int, unit: str, stage: str) -> int:
        """Return how many processes have died of a unit that is not begun at this moment."""
        return self._begun.get((work, unit, stage), 0)

    def begin(self, work: int, unit: str, stage: str) -> int:
        """Note that work begins; return how many processes have died of it until now."""
        self._last = time.monotonic()
        self._flow.begin(work, unit, stage)
        self._begun[work, unit, stage] += 1
        return self._begun[work, unit, stage] - 1

    def advance(self, work: int, unit: str, stage: str, rows: int) -> None:
        self._flow.advance(work, unit, stage, rows)

    def end(self, work: int, unit: str, stage: str, rows: int) -> None:
        self._last = time.monotonic()
        self._flow.end(work, unit, stage, rows)
        del self._begun[work, unit, stage]

    def forget(self, work: int, unit: str) -> None:
        self._flow.forget(work, unit)

    def snapshot(self, ended: Sequence[Task]) -> Snapshot:
        return self._flow.snapshot(ended)


def _guard(ledger: Any) -> Guard:
    """Return a guard that counts the processes that a unit ends, in the actor `ledger`, and ends those that hang in it.

    It tells the actor, too, how many of the unit's rows are done. Where a unit has ended too many processes, it is to
    be carried in halves; where that has ended more, the guard raises FatalUnitError.
    """

    @contextlib.contextmanager
    def guard(task: Task, stage: Stage) -> Iterator[Carry | None]:
        what, rows = (*task, stage.name), 0
        # Others that are at work beside it would share its fate, and its blame.
        suspect = stage.at_once > 1 and ray.get(ledger.deaths.remote(*what)) > 0
        with watchdog.turns.turn(alone=suspect):
            died = ray.get(ledger.begin.remote(*what))
            try:
                is_suspect = died >= watchdog.MAX_DEATHS
                if is_suspect and not (stage.apart and died < watchdog.MAX_DEATHS + watchdog.MAX_DEATHS_APART):
                    raise watchdog.FatalUnitError(
                        f"{died} processes ended or hung in it; what the last of them said is in the log"
                    )
                with (
                    watchdog.watched(stage.stall_s),
                    watchdog.counted(lambda done: ledger.advance.remote(*what, done)) as count,
                ):
                    try:
                        yield in_halves if is_suspect else None
                    finally:
                        rows = count()
            finally:  # never reached by a process that dies
                ledger.end.remote(*what, rows)

    return guard


def build(
    workloads: Sequence[Workload],
    tasks: Sequence[Task],
    guard: Guard = unguarded,
    *,
    placed: Callable[[], object] = lambda: None,
) -> ray.data.Dataset:
    """Build the lazy dataset whose blocks are the receipts. Pool actors call `placed` before they load anything."""
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = None  # otherwise a unit of more than 128 MB would be split
    context.enable_progress_bars = False
    # Set here, because Ray Data configures its loggers when it is imported.
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    few = len(tasks) <= _FEW_UNITS
    blocks = len(tasks) if few else -(-len(tasks) // _UNITS_PER_INPUT_BLOCK)
    items = ray.data.from_items([task._asdict() for task in tasks], override_num_blocks=blocks)
    dataset: ray.data.Dataset = items if few else ray_internals.one_row_a_block(items)
    for i, stage in enumerate(workloads[0].stages):
        mapped = (
            _function(list(workloads), i, guard) if stage.actors is None else _actor(list(workloads), i, guard, placed)
        )
        dataset = _map(dataset, stage, i, _named(stage.name, mapped))
    return dataset


def _map(dataset: ray.data.Dataset, stage: Stage, index: int, mapped: Any) -> ray.data.Dataset:
    options: dict[str, Any] = {
        "batch_size": None,
        "batch_format": "pyarrow",
        "num_cpus": stage.cpus,
        "memory": stage.memory or None,
        "zero_copy_batch": True,
    }
    if index % 2:
        options["fallback_strategy"] = []
    # Ray refuses a batch that is a whole block beside a GPU, unless it is asked in this way.
    map_batches = dataset.map_batches_internal if stage.gpus else dataset.map_batches
    if stage.gpus:
        options["num_gpus"] = stage.gpus
    if stage.actors is None:
        return map_batches(mapped, **options)
    smallest, largest = stage.actors
    pool = ray.data.ActorPoolStrategy(
        min_size=smallest or 1,
        max_size=largest,
        max_concurrent_calls_per_actor=stage.at_once,
        enable_true_multi_threading=stage.at_once > 1,
    )
    return map_batches(mapped, compute=pool, **options)


def _function(workloads: list[Workload], index: int, guard: Guard) -> Callable[[pa.Table], pa.Table]:
    def run(table: pa.Table) -> pa.Table:
        memory.return_freed()
        return _run_step(make_step(workloads, index, guard), table)

    return run


def _actor(workloads: list[Workload], index: int, guard: Guard, placed: Callable[[], object]) -> type:
    # The class carries `works`: a constructor's argument could be lost from the object store, and an actor that died
    # could then not be restarted.
    class Actor:
        def __init__(self) -> None:
            placed()
            self.step = make_step(workloads, index, guard, ahead=True)

        def __call__(self, table: pa.Table) -> pa.Table:
            return _run_step(self.step, table)

    return Actor


def _named(name: str, thing: Any) -> Any:
    """Name a callable: Ray Data uses the name for its operator, in logs and statistics."""
    thing.__name__ = thing.__qualname__ = name
    return thing


def _run_step(step: Callable[[Any], InFlight | Receipt], table: pa.Table) -> pa.Table:
    memory.let_go_of_store()  # what the unit before has read and written
    with memory.at_work():
        results = [to_block(step(from_block(table.slice(i, 1)))) for i in range(len(table))]
    return results[0] if len(results) == 1 else pa.concat_tables(results)
