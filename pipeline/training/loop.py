"""Training loop of one rank: from the newest checkpoint to the last step. It does not depend on Ray.

All ranks run it at the same time, each in its own process; with several ranks, torch's process group has been set up.
An error that one rank finds before the first step is reported to all, so that they stop together and none is left
waiting. The same holds for an image that later cannot be decoded: prefetching finds it, and all ranks stop before the
step that needs it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pipeline.cluster import hardware
from pipeline.training import arithmetic
from pipeline.training.checkpoints import checkpoint
from pipeline.training.checkpoints.checkpoint import CheckpointError, Record
from pipeline.training.checkpoints.writer import CheckpointWriter
from pipeline.training.config.train import TrainConfig
from pipeline.training.data.context import Context
from pipeline.training.data.feed import Feed, open_data
from pipeline.training.data.loader import Sources
from pipeline.training.data.reads import ReadMonitor
from pipeline.training.distributed.group import Agreement, Group, RunError, Signal
from pipeline.training.model import warm_start
from pipeline.training.model.replica import Replica
from pipeline.training.monitor import guards
from pipeline.training.monitor.console import Show, show_nothing
from pipeline.training.monitor.metrics import Pace
from pipeline.training.monitor.watch import Watch
from pipeline.training.record import StartIdentity
from pipeline.training.validation.validator import best_step, history_of, validated_on

log = logging.getLogger("transdomain")


@dataclass(frozen=True, kw_only=True)
class TrainingTask:
    """Input of every rank."""

    config: TrainConfig
    """Configuration with an absolute `output`, since workers run in other directories."""
    sources: Sources
    threads: int
    """Number of torch's threads; it changes the order of sums, and so the bits of the result."""


@dataclass(frozen=True, kw_only=True)
class TrainingOutcome:
    """Outcome of a start; the same on every rank."""

    step: int = 0
    """Number of steps done in total, including earlier starts."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """Losses of the last step; empty where this start had nothing to do."""
    failure: str = ""
    """Reason for stopping, where another attempt would stop in the same way."""
    stopped: bool = False
    """True where the run was asked to stop and did, with a checkpoint of `step`."""


def train(
    task: TrainingTask,
    group: Group,
    device: torch.device,
    *,
    show: Show = show_nothing,
    stop_asked: Callable[[], bool] = lambda: False,
    preempted: Callable[[], bool] = lambda: False,
) -> TrainingOutcome:
    """Train to the end, or until `stop_asked` is true on rank 0, where `show` gets the progress.

    `preempted` is called at every log step, on every rank at the same time. True means that a node will soon be gone,
    and a checkpoint is written. Raises StorageError, and what torch raises when a rank is lost; a restart of all ranks
    then continues from the last checkpoint.
    """
    hardware.set_up_torch(device, task.threads)
    context = Context(config=task.config, sources=task.sources, group=group, device=device, threads=task.threads)
    try:
        return _train(context, show, stop_asked, preempted)
    except RunError as error:
        return TrainingOutcome(failure=str(error))


def _train(
    context: Context, show: Show, stop_asked: Callable[[], bool], preempted: Callable[[], bool]
) -> TrainingOutcome:
    reads = ReadMonitor()
    record, parts = _newest_checkpoint(context)
    form = arithmetic.choose(context, record)
    data = open_data(context, reads)
    _check_images(context, record, data.fingerprint)
    for line in arithmetic.opening_lines(context, form):
        log.info(line)
    replica = Replica(context, form.precision, form.trunk)
    now = arithmetic.described(context, form)
    if record:
        log.info(_resuming_line(record, now))
        if left_out := record.about.get("validating"):  # earlier versions validated in another process
            log.info(f"the scores of step {left_out} had not come when the run ended: that validation is left out")
    about = {
        "fingerprint": data.fingerprint,
        "arithmetic": now,
        "start": _load(replica, record, parts),
        "validated_on": validated_on(context.config) or (record.about.get("validated_on") if record else None),
    }
    began = record.step if record else 0
    history = history_of(context.config, record.about) if record else []
    with (
        Feed(data, context, reads) as feed,
        Watch(context, replica, start=began, history=history, show=show) as watch,
    ):
        watch.prepare()
        steps = _Steps(context=context, feed=feed, replica=replica, watch=watch, preempted=preempted)
        return steps.run(began, _Leader(steps, began, about, stop_asked) if context.group.leads else None)


@dataclass(frozen=True, kw_only=True)
class _Steps:
    """Steps of one rank: train, log, validate, save."""

    context: Context
    feed: Feed
    replica: Replica
    watch: Watch
    preempted: Callable[[], bool]

    def run(self, start: int, leader: _Leader | None) -> TrainingOutcome:
        """Train from step `start` to the end, or until validation, a stop request or a failure ends the run."""
        group, order, watch, total = self.context.group, self.context.order, self.watch, self.context.total_steps
        agreement = Agreement(group)
        losses: dict[str, float] = {}
        pace, done = Pace(), start
        failure = self.feed.failure(start, 1 + agreement.delay)
        agreed = agreement.at_once(Signal.STOP if failure else Signal.GO_ON)
        while done < total and agreed is Signal.GO_ON and not watch.stops(done):
            local_losses = self._step(done, pace)
            done += 1
            watch.step(done, order.samples_in(done - 1))
            warned = False
            if watch.logs(done):
                losses = self._summed_over_ranks(local_losses)
                warned = self.preempted()
                line = self._line(done - 1, losses) | pace.read()
                with pace.paused():
                    watch.check(line, self.replica.objective.networks)
            with pace.paused():
                signal = leader.after_step(done, losses, warned=warned) if leader else Signal.GO_ON
            with pace.waiting():
                failure = self.feed.failure(done, 1 + agreement.delay)
            agreed = agreement.exchange(max(signal, Signal.STOP if failure else Signal.GO_ON))
        agreed = max(agreed, agreement.finish())
        if reason := watch.stops(done):
            log.info(f"step {done}: {reason}: stopping early")
        try:
            with group.raise_on_all_ranks(CheckpointError):
                if leader:
                    leader.end(done, agreed)
                if failure and not reason:
                    raise RunError(_stop_message(failure, done))
        except RunError as error:
            return TrainingOutcome(step=done, losses=losses, failure=str(error))
        return TrainingOutcome(step=done, losses=losses, stopped=agreed is Signal.STOP and done < total and not reason)

    def _step(self, step: int, pace: Pace) -> dict[str, Tensor]:
        """Return this rank's part of the losses of one step."""
        with pace.waiting(images=self.context.order.samples_in(step)):
            batch = self.feed.batch(step)
        return self.replica.step(batch.real_a, batch.real_b, step=step, samples=batch.samples)

    def _summed_over_ranks(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        values = self.context.group.sum(torch.stack([loss.double() for loss in losses.values()]))
        return dict(zip(losses, values.tolist(), strict=True))

    def _line(self, step: int, losses: Mapping[str, float]) -> dict[str, Any]:
        return {
            "step": step + 1,
            "epoch": step // self.context.order.steps_per_epoch + 1,
            "learning_rate": self.replica.learning_rate(step),
            "losses": dict(losses),
        }


def _stop_message(failure: str, done: int) -> str:
    """Return the message about images that cannot be used in the step after `done`."""
    if not done:
        return failure
    return (
        f"{failure}; stopped with a checkpoint of step {done}, from which the same command goes on once the images are "
        "as they were; other images are another run's"
    )


class _Leader:
    """Duties of rank 0 besides its steps: checkpoints, and the decision when all ranks stop."""

    def __init__(self, steps: _Steps, start: int, about: Mapping[str, Any], stop_asked: Callable[[], bool]) -> None:
        self._replica, self._watch, self._config = steps.replica, steps.watch, steps.context.config
        self._stop_asked = stop_asked
        self._writer = CheckpointWriter(self._config, about)
        self._saved, self._saved_on_warning = start, False
        self._failure: CheckpointError | None = None

    def after_step(self, done: int, losses: Mapping[str, float], *, warned: bool) -> Signal:
        """Write a checkpoint where one is due or a node will soon be gone; return how all ranks proceed.

        `losses` are the last known ones, which may be some steps old.
        """
        try:
            if diverged := guards.not_finite(losses) or self._watch.exploded:
                raise CheckpointError(self._diverged_message(done, diverged))
            if self._writer.due(done) or self._watch.validates(done) or (warned and not self._saved_on_warning):
                self._saved_on_warning |= warned
                self._save(done)
        except CheckpointError as error:
            self._failure = error
            return Signal.FAIL
        return Signal.STOP if self._stop_asked() else Signal.GO_ON

    def end(self, done: int, agreed: Signal) -> None:
        """Write the last checkpoint and wait for it. Raises the first CheckpointError that occurred."""
        try:
            if agreed is not Signal.FAIL and self._saved < done:
                self._save(done)
            self._writer.finish()
        except CheckpointError as error:
            self._failure = self._failure or error
        if self._failure:
            raise self._failure

    def _save(self, done: int) -> None:
        if not self._replica.is_finite():
            raise CheckpointError(self._diverged_message(done, []))
        history = self._watch.history
        best = best_step(history, self._config.validation.metric)
        self._writer.save(
            done,
            self._replica.state(),
            first=self._watch.snapshot(),
            also=[] if best is None else [best],
            about={"validation": history},
        )
        self._saved = done

    def _diverged_message(self, done: int, diverged: Sequence[str]) -> str:
        kept = checkpoint.steps(self._config.output)
        last = f"the last good checkpoint is of step {kept[-1]}" if kept else "there is no checkpoint"
        return (
            f"{self._config.output}: step {done}: {', '.join(diverged) or 'weights are no longer finite'}; {last}; "
            "begin another run, with a lower learning_rate or precision fp32"
        )


def _newest_checkpoint(context: Context) -> tuple[Record | None, Mapping[str, checkpoint.State]]:
    """Return the newest complete checkpoint and its parts; the same checkpoint on every rank."""
    run, group, found = context.config.output, context.group, None
    with group.raise_on_all_ranks(checkpoint.UnknownFormatError):
        if group.leads:
            found = checkpoint.newest(run)
    record = group.from_leader(found[0] if found else None)
    if record is None:
        return None, {}
    return record, found[1] if found else {name: checkpoint.read_part(run, record, name) for name in record.parts}


def _check_images(context: Context, record: Record | None, fingerprint: str) -> None:
    """Raise RunError where there is a checkpoint and it belongs to other images than this start's."""
    if record and record.about.get("fingerprint") != fingerprint:
        raise RunError(
            f"{context.config.output}: the images of {context.sources.a.url} are not those that this run began with; "
            "give it those, or begin another run with another output"
        )


def _load(replica: Replica, record: Record | None, parts: Mapping[str, checkpoint.State]) -> StartIdentity | None:
    """Load a checkpoint, or the weights of a new run; return the identity of the weights that the run began with."""
    if record:
        replica.load_state(parts)
        return record.about.get("start")
    if not replica.config.start_from:
        return None
    start = warm_start.read(replica.config)
    log.info(f"beginning with {start}")
    replica.load_networks(start.networks)
    return start.identity


def _resuming_line(record: Record, now: Mapping[str, Any]) -> str:
    before = record.about.get("arithmetic", {})
    changed = [f"{name} {before.get(name)} → {now[name]}" for name in now if before.get(name) != now[name]]
    note = f"; not bit for bit as before, since {', '.join(changed)}" if changed else ""
    return f"resuming from the checkpoint of step {record.step}{note}"
