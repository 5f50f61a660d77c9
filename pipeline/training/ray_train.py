"""The loop of every rank, run by Ray Train; the only module that imports it.

Ray Train starts the workers, sets up torch's process group and starts all of them anew when one is lost. Checkpoints
are our own, so its storage folder is a new temporary one for each start, and stays as good as empty.
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

from pipeline.cluster import connection, hardware
from pipeline.errors import one_line
from pipeline.terminal import say
from pipeline.training.distributed.group import Group
from pipeline.training.distributed.placement import Placement, held_by_others, place
from pipeline.training.distributed.rendezvous import MeetAtFile
from pipeline.training.loop import TrainingOutcome, TrainingTask, train
from pipeline.training.monitor.console import RunProgress, Screen
from pipeline.training.monitor.telemetry import TrainingMetrics

STOPPING = "stopping after this step, with a checkpoint; once more ends at once"

MAX_WORKER_FAILURES = 3
"""Deaths of workers that one start bears; each costs the steps since the last checkpoint."""

_LOOK_EVERY_S, _LAST_LOOK_S = 0.3, 5.0

_PLACED_WITHIN_S = 30.0
"""How long the workers are waited for before it is looked whether others hold their places."""

_WORKER_ENVIRONMENT = hardware.MALLOC_ENVIRONMENT | {
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # DDP warns of find_unused_parameters, which is chosen for another reason
}


class TrainingError(Exception):
    """Training ended before its last step; the message says why, and what to do."""


def fit(task: TrainingTask, screen: Screen) -> TrainingOutcome:
    """Train to the end on the cluster that this process is connected to, shown on `screen`.

    A first SIGINT or SIGTERM stops all workers after one step, with a checkpoint, and raises KeyboardInterrupt; a
    second one ends at once. Raises UserError where the workers cannot be placed, TrainingError where they fail again
    and again.
    """
    placement = place(task.config, connection.nodes())
    if not connection.joins():
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # nothing to watch on the one machine
    stop = _Stop.options(scheduling_strategy=_beside_driver()).remote()  # type: ignore[attr-defined]
    board = ray.remote(_Board).options(num_cpus=0, scheduling_strategy=_beside_driver()).remote()
    with (
        tempfile.TemporaryDirectory(prefix="transdomain-ray-train-") as folder,
        _shown(board, screen, TrainingMetrics(task.config.output), placement),
        _passing_on(stop),
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
            raise TrainingError(
                f"{task.config.output}: {_reason(error)}; the same command goes on from the last checkpoint"
            ) from error
    if outcome.failure:
        raise TrainingError(outcome.failure)
    if outcome.stopped:
        screen.say(f"stopped with a checkpoint of step {outcome.step}")
        raise KeyboardInterrupt
    return outcome


def _beside_driver() -> NodeAffinitySchedulingStrategy:
    """A node whose loss ends the driver, too: on another one what links it with the workers could be lost alone."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


@ray.remote(num_cpus=0)
class _Stop:
    """A wish that reaches the workers wherever they are.

    No part of `_Board`: only an asynchronous actor can be waited for and asked at once, whatever starts of the workers
    wait still, and such an actor does not keep the order of what it is told.
    """

    def __init__(self) -> None:
        self._asked = asyncio.Event()

    async def ask(self) -> None:
        self._asked.set()

    async def wait(self) -> bool:
        """True once the wish is there."""
        return await self._asked.wait()


@contextlib.contextmanager
def _passing_on(stop: Any) -> Iterator[None]:
    """Inside, the first SIGINT or SIGTERM asks the workers to stop; the second ends this process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    asked, over = threading.Event(), threading.Event()

    def pass_on() -> None:
        asked.wait()
        if not over.is_set():
            stop.ask.remote()

    def first(signum: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, lambda *_: os._exit(128 + signum))
        say(STOPPING)
        asked.set()

    # Not from the handler itself, which may interrupt Ray at any point.
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
    """Ray's trainer without two habits of its driver side.

    Both hooks are Ray's internals: should a later version not call them, the habits come back, and nothing breaks.
    """

    def _create_default_callbacks(self) -> list[Any]:
        """Without the detached watcher of placement groups, where Ray ends with this process.

        It asks the dashboard about its controller once a second and, as the embedded Ray has none, complains each time.
        """
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]
        if connection.joins():
            return callbacks
        return [callback for callback in callbacks if type(callback).__name__ != "PlacementGroupCleanerCallback"]

    def _register_sigint_handler(self, controller: Any) -> None:
        """Leave Ctrl-C to the job, which says how to go on and exits with 130."""


def _train_on_worker(told: dict[str, Any]) -> TrainingOutcome:
    context = ray.train.get_context()
    group = Group(rank=context.get_world_rank(), workers=context.get_world_size(), node=context.get_node_rank())
    wish = None
    if group.leads:
        told["board"].settle.remote()
        wish = told["stop"].wait.remote()

    def stop_asked() -> bool:
        nonlocal wish
        if wish is None or not ray.wait([wish], timeout=0)[0]:
            return False
        try:
            return ray.get(wish)
        except ray.exceptions.RayError:  # the actor's node is gone, and with it the way for a wish
            wish = None
            return False

    with _logging_to(told["board"], group):
        return train(
            told["task"],
            group,
            get_device(),
            show=told["board"].show.remote,
            stop_asked=stop_asked,
            preempted=_preempted,
        )


@contextlib.contextmanager
def _logging_to(board: Any, group: Group) -> Iterator[None]:
    """Inside, the lines that rank 0 logs reach the driver, and so do the warnings of the other ranks."""
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
        self._board.say.remote(self._prefix + record.getMessage())


class _Board:
    """An actor on which rank 0 leaves what the driver is to show, wherever each of them runs.

    Ray's own way from a worker's stdout puts the process in front of each line, and could carry no progress.
    """

    def __init__(self) -> None:
        self._lines: list[str | RunProgress] = []
        self._settled = False

    def settle(self) -> None:
        """The workers have their places."""
        self._settled = True

    def settled(self) -> bool:
        return self._settled

    def say(self, line: str) -> None:
        self._lines.append(line)

    def show(self, standing: RunProgress) -> None:
        """A newer one takes the place of one that nobody has seen, unless that has a line of metrics."""
        if self._lines and isinstance(last := self._lines[-1], RunProgress) and last.line is None:
            self._lines.pop()
        self._lines.append(standing)

    def take(self) -> list[str | RunProgress]:
        """All that is new."""
        taken, self._lines = self._lines, []
        return taken


@contextlib.contextmanager
def _shown(board: Any, screen: Screen, told: TrainingMetrics, placement: Placement) -> Iterator[None]:
    """Show what is left on `board`, on the screen and to who scrapes, until the end of the block; and that the workers
    wait for their places, where others hold these."""
    ended = threading.Event()

    def show() -> None:
        for item in ray.get(board.take.remote()):
            if isinstance(item, str):
                screen.say(item)
            else:
                screen.show(item)
                told.show(item)

    def follow() -> None:
        asked = time.monotonic()
        with contextlib.suppress(ray.exceptions.RayError):  # Ray is gone, and so is the run: fit() says why
            while not ended.wait(_LOOK_EVERY_S):
                show()
                if time.monotonic() - asked >= _PLACED_WITHIN_S:
                    asked = time.monotonic()
                    line = held_by_others(placement, connection.nodes(), connection.free())
                    if line and not ray.get(board.settled.remote()):
                        screen.say(line)
            show()

    thread = threading.Thread(target=follow, name="screen", daemon=True)
    with screen:
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(_LAST_LOOK_S)


def _preempted() -> bool:
    """Whether a node with a worker of this run is about to be taken away. Every worker must ask at once."""
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


def _reason(error: ray.train.TrainingFailedError) -> str:
    """What went wrong first, in one line, without the tracebacks of every rank."""
    failures = getattr(error, "worker_failures", {})
    for rank, failure in sorted(failures.items()):
        lines = [line for line in str(failure).splitlines() if line.strip()]
        return f"worker {rank} failed {MAX_WORKER_FAILURES + 1} times, at last with {lines[-1] if lines else failure!r}"
    return one_line(error, kind=False)
