"""Run of every rank's training loop under Ray Train; the only module that imports it.

Ray Train starts the workers, sets up torch's process group, and restarts all workers when one is lost. The project
writes its own checkpoints, so Ray Train's storage folder is a new temporary one for each start, and stays almost empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.cluster import connection, host, loss
from pipeline.errors import UserError, one_line
from pipeline.terminal import print_notice
from pipeline.training.distributed.group import Group
from pipeline.training.distributed.placement import Placement, place, waiting_line
from pipeline.training.distributed.rendezvous import MeetAtFile
from pipeline.training.loop import TrainingOutcome, TrainingTask, train
from pipeline.training.monitor.board import Board
from pipeline.training.monitor.console import Screen
from pipeline.training.monitor.telemetry import TrainingMetrics

STOPPING = "stopping after this step, with a checkpoint; once more ends at once"

MAX_WORKER_FAILURES = 3
"""Number of worker deaths that one start tolerates; each costs the steps since the last checkpoint."""

_POLL_S, _LAST_POLL_TIMEOUT_S = 0.3, 5.0

_PLACEMENT_TIMEOUT_S = 30.0
"""Seconds to wait for the workers before checking whether other jobs hold their resources."""

_WORKER_ENVIRONMENT = host.WORKER_ENVIRONMENT | {
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # hides DDP's warning about find_unused_parameters, which is on for another reason
}


class TrainingError(Exception):
    """Training that ended before its last step; the message says why, and what to do."""


def fit(task: TrainingTask, screen: Screen) -> TrainingOutcome:
    """Train to the end on the cluster that this process is connected to, with progress on `screen`.

    A first SIGINT or SIGTERM stops all workers after one step, with a checkpoint, and raises KeyboardInterrupt; a
    second one ends the process at once. Raises UserError where the workers do not fit on the cluster or lack a module,
    TrainingError where they fail repeatedly.
    """
    placement = place(task.config, connection.nodes())
    if not connection.joins():
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # nothing to watch on the one machine
    stop = _Stop.options(scheduling_strategy=_on_driver_node()).remote()  # type: ignore[attr-defined]
    board = ray.remote(Board).options(num_cpus=0, scheduling_strategy=_on_driver_node()).remote()
    with (
        tempfile.TemporaryDirectory(prefix="transdomain-ray-train-") as folder,
        _shown(board, screen, TrainingMetrics(task.config.output), placement),
        _forwarding_signals(stop),
    ):
        trainer = _Trainer(
            _train_on_worker,  # type: ignore[arg-type]  # Ray's annotations are those of its first version
            train_loop_config={
                "task": dataclasses.replace(task, threads=placement.threads),
                "stop": stop,
                "board": board,
            },
            torch_config=None if connection.joins() else MeetAtFile(folder=folder),
            scaling_config=_scaling(placement),
            run_config=RunConfig(  # type: ignore[call-arg]
                name="train",
                storage_path=folder,
                failure_config=FailureConfig(max_failures=MAX_WORKER_FAILURES),
                logging_config=LoggingConfig(log_level="ERROR"),
                worker_runtime_env={"env_vars": _WORKER_ENVIRONMENT},
            ),
        )
        try:
            outcome = trainer.fit().return_value  # type: ignore[attr-defined]
        except ray.train.TrainingFailedError as error:
            if lacking := loss.missing_module(" ".join(map(str, [error, *_failures(error).values()]))):
                raise UserError(lacking) from error
            raise TrainingError(
                f"{task.config.output}: {_reason(error)}; the same command goes on from the last checkpoint"
            ) from error
    if outcome.failure:
        raise TrainingError(outcome.failure)
    if outcome.stopped:
        screen.print_line(f"stopped with a checkpoint of step {outcome.step}")
        raise KeyboardInterrupt
    return outcome


def _on_driver_node() -> NodeAffinitySchedulingStrategy:
    """Return a strategy that places an actor on the driver's node.

    On another node, the actors that link the driver with the workers could be lost alone.
    """
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


@ray.remote(num_cpus=0)
class _Stop:
    """Stop request that reaches the workers wherever they are.

    It is not part of `Board`. Only an asynchronous actor can be waited for and asked at once, even while earlier
    starts of the workers still wait, and such an actor does not keep the order of its calls.
    """

    def __init__(self) -> None:
        self._asked = asyncio.Event()

    async def ask(self) -> None:
        self._asked.set()

    async def wait(self) -> bool:
        """Wait for the stop request, then return True."""
        return await self._asked.wait()


@contextlib.contextmanager
def _forwarding_signals(stop: Any) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM in the block ask the workers to stop, and the second end this process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can handle signals
        return
    asked, over = threading.Event(), threading.Event()

    def pass_on() -> None:
        asked.wait()
        if not over.is_set():
            stop.ask.remote()

    def first(signum: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, lambda *_: os._exit(128 + signum))
        print_notice(STOPPING)
        asked.set()

    # The handler itself may interrupt Ray at any point, so a thread passes the request on.
    thread = threading.Thread(target=pass_on, daemon=True)
    thread.start()
    before = {each: signal.signal(each, first) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        over.set()
        asked.set()
        thread.join()


class _Trainer(TorchTrainer):
    """Ray's trainer without three behaviours of its driver side.

    Both hooks are Ray's internals: if a later version does not call them, the behaviours come back, and nothing breaks.
    """

    def _create_default_callbacks(self) -> list[Any]:
        """Leave out the manager of Ray datasets, of which there are none: it is a process that takes 3 s to start.

        Leave out the detached watcher of placement groups, too, where Ray ends with this process. It asks the dashboard
        about its controller once a second. The embedded Ray has no dashboard, so it complains each time.
        """
        useless = {"DatasetsCallback"} | (set() if connection.joins() else {"PlacementGroupCleanerCallback"})
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]
        return [callback for callback in callbacks if type(callback).__name__ not in useless]

    def _register_sigint_handler(self, controller: Any) -> None:
        """Leave Ctrl-C to the job, which says how to resume and exits with 130."""


def _train_on_worker(options: dict[str, Any]) -> TrainingOutcome:
    context = ray.train.get_context()
    group = Group(rank=context.get_world_rank(), workers=context.get_world_size(), node=context.get_node_rank())
    stop_request = None
    if group.leads:
        options["board"].note_placed.remote()
        stop_request = options["stop"].wait.remote()

    def stop_asked() -> bool:
        nonlocal stop_request
        if stop_request is None or not ray.wait([stop_request], timeout=0)[0]:
            return False
        try:
            return ray.get(stop_request)
        except ray.exceptions.RayError:  # the actor's node is gone, so no stop request can arrive
            stop_request = None
            return False

    with _logging_to(options["board"], group):
        return train(
            options["task"],
            group,
            get_device(),
            show=options["board"].update.remote,
            stop_asked=stop_asked,
            preempted=_preempted,
        )


@contextlib.contextmanager
def _logging_to(board: Any, group: Group) -> Iterator[None]:
    """Send the lines that rank 0 logs in the block, and the warnings of the other ranks, to the driver."""
    logger, handler = logging.getLogger("transdomain"), _BoardHandler(board, group)
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


class _BoardHandler(logging.Handler):
    def __init__(self, board: Any, group: Group) -> None:
        super().__init__(logging.INFO if group.leads else logging.WARNING)
        self._board, self._prefix = board, "" if group.leads else f"worker {group.rank}: "

    def emit(self, record: logging.LogRecord) -> None:
        self._board.print_line.remote(self._prefix + record.getMessage())


@contextlib.contextmanager
def _shown(board: Any, screen: Screen, prometheus: TrainingMetrics, placement: Placement) -> Iterator[None]:
    """Show what is left on `board`, on the screen and in the Prometheus metrics, until the block ends.

    Report that the workers wait for resources where other jobs hold these.
    """
    ended = threading.Event()

    def show() -> None:
        for item in ray.get(board.take.remote()):
            if isinstance(item, str):
                screen.print_line(item)
            else:
                screen.update(item)
                prometheus.update(item)

    def follow() -> None:
        asked = time.monotonic()
        with contextlib.suppress(ray.exceptions.RayError):  # Ray is gone, and so is the run; fit() reports why
            while not ended.wait(_POLL_S):
                show()
                if time.monotonic() - asked >= _PLACEMENT_TIMEOUT_S:
                    asked = time.monotonic()
                    line = waiting_line(placement, connection.nodes(), connection.free())
                    if line and not ray.get(board.placed.remote()):
                        screen.print_line(line)
            show()

    thread = threading.Thread(target=follow, name="screen", daemon=True)
    with screen:
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(_LAST_POLL_TIMEOUT_S)


def _preempted() -> bool:
    """Return True where a node with a worker of this run will soon be preempted. Every worker must ask at once."""
    if os.environ.get("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER") == "0":
        return False
    return ray.train.get_preemption_info() is not None


def _scaling(placement: Placement) -> ScalingConfig:
    elastic = placement.least < placement.workers
    return ScalingConfig(
        num_workers=(placement.least, placement.workers) if elastic else placement.workers,  # type: ignore[arg-type]
        use_gpu=placement.gpus > 0,
        resources_per_worker=placement.demand,
    )


def _failures(error: ray.train.TrainingFailedError) -> dict[int, Exception]:
    """Return the failure of each rank that failed; none where the workers did not even start."""
    return getattr(error, "worker_failures", {})


def _reason(error: ray.train.TrainingFailedError) -> str:
    """Return the first failure in one line, without the tracebacks of every rank."""
    for rank, failure in sorted(_failures(error).items()):
        lines = [line for line in str(failure).splitlines() if line.strip()]
        return f"worker {rank} failed {MAX_WORKER_FAILURES + 1} times, at last with {lines[-1] if lines else failure!r}"
    return one_line(error, kind=False)
