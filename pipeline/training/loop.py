"""The training loop of one rank: from the newest checkpoint to the last step. Knows no Ray.

All ranks run it at once, each in a process of its own, with torch's process group set up where they are several.
What one rank finds wrong before the first step is told to all, so that they stop together and nobody waits. So is an
image that turns out bad later: it is found while it is prepared, and all end before the step that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pipeline.cluster import hardware
from pipeline.cluster.hardware import Trunk
from pipeline.training.checkpoints import checkpoint
from pipeline.training.checkpoints.checkpoint import CheckpointError, Record
from pipeline.training.checkpoints.writer import Keeper
from pipeline.training.config.train import TrainConfig
from pipeline.training.data.feed import Feed, open_data
from pipeline.training.data.loader import Sources
from pipeline.training.data.order import Order
from pipeline.training.data.waiting import Waiting
from pipeline.training.distributed.group import Agreement, Group, Signal
from pipeline.training.model import warm_start
from pipeline.training.model.replica import Replica
from pipeline.training.monitor import guards
from pipeline.training.monitor.console import Show, show_nothing
from pipeline.training.monitor.metrics import Pace
from pipeline.training.monitor.watch import Watch
from pipeline.training.record import Start
from pipeline.training.validation.validator import best_step, history_of, validated_on

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What every rank is told."""

    config: TrainConfig
    """With an absolute `output`: workers have other directories."""
    sources: Sources
    threads: int
    """Of torch; they change the order of sums, and so the bits."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of it; the same on every rank."""

    step: int = 0
    """Steps done in all, earlier starts included."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """Of the last step; empty where this start had nothing to do."""
    failure: str = ""
    """Why it stopped, where trying again would stop in the same way."""
    stopped: bool = False
    """Whether it was asked to stop, and did, with a checkpoint of `step`."""


def order_of(config: TrainConfig, sources: Sources) -> Order:
    """The order of a run over these sources."""
    return Order(
        seed=config.seed,
        images_a=sources.a.images,
        images_b=sources.b.images,
        paired=config.objective == "pix2pix",
        global_batch=config.global_batch,
    )


def train(
    task: Task,
    group: Group,
    device: torch.device,
    say: Say,
    show: Show = show_nothing,
    *,
    stop_asked: Callable[[], bool] = lambda: False,
    preempted: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train to the end, or until `stop_asked` says so on rank 0. `say` gets lines for people and
    `show` where the run stands, on rank 0 only.

    `preempted` is asked at every log step, on every rank at once: true means that a node will soon be gone, and a
    checkpoint is written.
    Raises StorageError and what torch raises when a rank is lost: a new start of all goes on from the last checkpoint.
    """
    waiting = Waiting(say, who=f"worker {group.rank}: " if group.workers > 1 else "")
    say = say if group.leads else lambda line: None
    hardware.set_up_torch(device, task.threads)
    precision, trunk, failure = _agree_on_arithmetic(task.config, group, device)
    if failure:
        return Outcome(failure=failure)
    order = order_of(task.config, task.sources)
    data, failure = open_data(task.config, task.sources, order, group, threads=task.threads, say=say, waiting=waiting)
    if failure or data is None:
        return Outcome(failure=failure)
    about: dict[str, Any] = {
        "fingerprint": data.fingerprint,
        "arithmetic": _arithmetic(task, group, device, precision, trunk),
    }
    record, parts, failure = _newest_checkpoint(task.config.output, group, say)
    began, before = (record.step, record.about) if record else (0, {})
    if failure := failure or _other_images(task, record, about):
        return Outcome(step=began, failure=failure)
    for line in _opening(task, group, device, precision, trunk):
        say(line)
    replica = Replica(task.config, group, device, precision, trunk, steps_per_epoch=order.steps_per_epoch)
    if record:
        say(_resuming(record, about))
        if left_out := before.get("validating"):  # an earlier version validated in another process
            say(f"the scores of step {left_out} had not come when the run ended: that validation is left out")
    about["start"] = _load(replica, record, parts, say)
    about["validated_on"] = validated_on(task.config) or before.get("validated_on")
    with (
        Feed(data, task.config, order, device, waiting) as feed,
        Watch(
            task.config,
            task.sources,
            replica,
            start=began,
            total=task.config.total_steps(order.steps_per_epoch),
            steps_per_epoch=order.steps_per_epoch,
            history=history_of(task.config, before),
            say=say,
            show=show,
        ) as watch,
    ):
        if failure := watch.ready():
            return Outcome(step=began, failure=failure)
        steps = _Steps(
            config=task.config,
            order=order,
            group=group,
            feed=feed,
            replica=replica,
            about=about,
            say=say,
            stop_asked=stop_asked,
            preempted=preempted,
        )
        return steps.run(began, watch)


@dataclass(frozen=True, kw_only=True)
class _Steps:
    """The steps of one rank, and what they leave: metrics and checkpoints."""

    config: TrainConfig
    order: Order
    group: Group
    feed: Feed
    replica: Replica
    about: Mapping[str, Any]
    say: Say
    stop_asked: Callable[[], bool]
    preempted: Callable[[], bool]

    def run(self, start: int, watch: Watch) -> Outcome:
        """From step `start` to the end, to where validation ends it, to where it is asked to stop or cannot go on."""
        total = self.config.total_steps(self.order.steps_per_epoch)
        leader = _Leader(self, start, watch) if self.group.leads else None
        agreement = Agreement(self.group)
        losses: dict[str, float] = {}
        pace, done = Pace(), start
        bad = self.feed.failure(start, 1 + agreement.delay)
        agreed = agreement.at_once(Signal.STOP if bad else Signal.GO_ON)
        while done < total and agreed is Signal.GO_ON and not watch.stops(done):
            found = self._step(done, pace)
            done += 1
            watch.step(done, self.order.samples_in(done - 1))
            warned = False
            if watch.logs(done):
                losses = self._over_all_ranks(found)
                warned = self.preempted()
                line = self._line(done - 1, losses) | pace.read()
                with pace.paused():
                    watch.look(line, self.replica.objective.networks)
            with pace.paused():
                signal = leader.after_step(done, losses, warned=warned) if leader else Signal.GO_ON
            with pace.waiting():
                bad = self.feed.failure(done, 1 + agreement.delay)
            agreed = agreement.exchange(max(signal, Signal.STOP if bad else Signal.GO_ON))
        agreed = max(agreed, agreement.settle())
        if reason := watch.stops(done):
            self.say(f"step {done}: {reason}: stopping early")
        failure = leader.end(done, agreed) if leader else ""
        if bad and not reason:
            failure = failure or _stopped_by(bad, done)
        failure = next(filter(None, self.group.gather(failure)), "")
        stopped = agreed is Signal.STOP and done < total and not reason and not failure
        return Outcome(step=done, losses=losses, failure=failure, stopped=stopped)

    def _step(self, step: int, pace: Pace) -> dict[str, Tensor]:
        """This rank's part of the losses of one step."""
        with pace.waiting(images=self.order.samples_in(step)):
            batch = self.feed.batch(step)
        return self.replica.step(batch.real_a, batch.real_b, step=step, samples=batch.samples)

    def _over_all_ranks(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        values = self.group.sum(torch.stack([loss.double() for loss in losses.values()]))
        return dict(zip(losses, values.tolist(), strict=True))

    def _line(self, step: int, losses: Mapping[str, float]) -> dict[str, Any]:
        return {
            "step": step + 1,
            "epoch": step // self.order.steps_per_epoch + 1,
            "learning_rate": self.replica.learning_rate(step),
            "losses": dict(losses),
        }


def _stopped_by(bad: str, done: int) -> str:
    """What is said of images that turned out bad before the step after `done`."""
    if not done:
        return bad
    return (
        f"{bad}; stopped with a checkpoint of step {done}, from which the same command goes on once the images are as "
        "they were; other images are another run's"
    )


class _Leader:
    """What rank 0 does beside its steps: metrics, checkpoints, and to see when all are to stop."""

    def __init__(self, steps: _Steps, start: int, watch: Watch) -> None:
        self._steps, self._config, self._watch = steps, steps.config, watch
        self._keeper = Keeper(self._config, steps.about, steps.say)
        self._saved, self._rescued = start, False
        self._failure = ""

    def after_step(self, done: int, losses: Mapping[str, float], *, warned: bool) -> Signal:
        """Write a checkpoint where one is due, or where a node will soon be gone; say how all go on.

        `losses` are the last that are known, which may be some steps old.
        """
        try:
            if bad := guards.not_finite(losses) or self._watch.exploded:
                raise CheckpointError(self._diverged(done, bad))
            if self._keeper.due(done) or self._watch.validates(done) or (warned and not self._rescued):
                self._rescued |= warned
                self._save(done)
        except CheckpointError as error:
            self._failure = str(error)
            return Signal.FAIL
        return Signal.STOP if self._steps.stop_asked() else Signal.GO_ON

    def end(self, done: int, agreed: Signal) -> str:
        """Write the last checkpoint and wait for it; returns what has gone wrong, if anything has."""
        try:
            if agreed is not Signal.FAIL and self._saved < done:
                self._save(done)
            self._keeper.finish()
        except CheckpointError as error:
            self._failure = self._failure or str(error)
        return self._failure

    def _save(self, done: int) -> None:
        if not self._steps.replica.is_finite():
            raise CheckpointError(self._diverged(done, []))
        history = self._watch.history
        best = best_step(history, self._config.validation.metric)
        self._keeper.save(
            done,
            self._steps.replica.state(),
            first=self._watch.snapshot(),
            also=[] if best is None else [best],
            about={"validation": history},
        )
        self._saved = done

    def _diverged(self, done: int, bad: Sequence[str]) -> str:
        kept = checkpoint.steps(self._config.output)
        last = f"the last good checkpoint is of step {kept[-1]}" if kept else "there is no checkpoint"
        return (
            f"{self._config.output}: step {done}: {', '.join(bad) or 'weights are no longer finite'}; {last}; "
            "begin another run, with a lower learning_rate or precision fp32"
        )


def _agree_on_arithmetic(config: TrainConfig, group: Group, device: torch.device) -> tuple[str, Trunk, str]:
    """The precision that every rank has, the trunk that goes with it, and what any rank finds wrong."""
    precision, failure = "fp32", ""
    trunk: Trunk = "direct"
    try:
        precision = hardware.choose_precision(config.precision, device.type)
    except ValueError as error:
        failure = str(error)
    everywhere = group.gather((precision, failure))
    if failures := [failure for _, failure in everywhere if failure]:
        return precision, trunk, failures[0]
    precision = min((name for name, _ in everywhere), key=("fp32", "fp16", "bf16").index)
    try:
        trunk = hardware.choose_trunk(config.trunk, kind=config.generator.kind, device=device.type, precision=precision)
    except ValueError as error:
        failure = str(error)
    return precision, trunk, failure


def _newest_checkpoint(run: str, group: Group, say: Say) -> tuple[Record | None, Mapping[str, checkpoint.State], str]:
    """The newest complete checkpoint, the same one on every rank; or, on every rank, why it cannot be gone on with."""
    found, failure = None, ""
    if group.leads:
        try:
            found = checkpoint.newest(run, say)
        except checkpoint.UnknownFormatError as error:
            failure = str(error)
    record, failure = group.from_leader((found[0] if found else None, failure))
    if record is None:
        return None, {}, failure
    return record, found[1] if found else {name: checkpoint.read_part(run, record, name) for name in record.parts}, ""


def _other_images(task: Task, record: Record | None, about: Mapping[str, Any]) -> str:
    """What is wrong where the checkpoint, if there is one, is of other images than this start's."""
    if record is None or record.about.get("fingerprint") == about["fingerprint"]:
        return ""
    return (
        f"{task.config.output}: the images of {task.sources.a.url} are not those that this run began with; "
        "give it those, or begin another run with another output"
    )


def _load(replica: Replica, record: Record | None, parts: Mapping[str, checkpoint.State], say: Say) -> Start | None:
    """Take over a checkpoint, or the weights that the run is to begin with; returns which those are, or were."""
    if record:
        replica.load_state(parts)
        return record.about.get("start")
    if not replica.config.start_from:
        return None
    start = warm_start.read(replica.config)
    say(f"beginning with {start}")
    replica.load_networks(start.networks)
    return start.identity


def _arithmetic(task: Task, group: Group, device: torch.device, precision: str, trunk: Trunk) -> dict[str, Any]:
    """What decides the last bits of the weights, beside recipe and data."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else hardware.cpu_capability(),
        "precision": precision,
        "trunk": trunk,
        "threads": task.threads,
        "workers": group.workers,
        "accumulate": task.config.accumulate,
        "torch": torch.__version__,
    }


def _opening(task: Task, group: Group, device: torch.device, precision: str, trunk: Trunk) -> Iterator[str]:
    """What is said at the start: what is trained on what, and what the number of workers changes."""
    config, order = task.config, order_of(task.config, task.sources)
    yield (
        f"{config.objective}, {config.direction.replace('_', ' ')}: {order.samples_per_epoch} samples in "
        f"{order.steps_per_epoch} steps an epoch, {config.total_steps(order.steps_per_epoch)} steps in all; "
        f"{group.workers} worker(s) with {task.threads} thread(s), {precision} on {hardware.describe(device.type)}"
    )
    if trunk == "winograd":
        yield "trunk winograd: residual blocks convolve with a quarter of the multiplications, and round otherwise"
    if group.workers > 1 and "batch" in (config.generator.norm, config.discriminator.norm):
        yield "batch norm: each worker normalises with its own samples, so the number of workers changes the result"
    if config.accumulate > 1 and "batch" in (config.generator.norm, config.discriminator.norm):
        yield "batch norm: each micro-batch is normalised by itself, so their number changes the result"
    if group.workers > 1 and config.generator.dropout:
        yield "dropout: its masks depend on the number of workers, and so does the result"
    if group.workers > 1 and config.gan_loss == "wgangp":
        yield "gradient penalty: its points are drawn by each worker, so the number of workers changes the result"


def _resuming(record: Record, about: Mapping[str, Any]) -> str:
    before, now = record.about.get("arithmetic", {}), about["arithmetic"]
    changed = [f"{name} {before.get(name)} → {now[name]}" for name in now if before.get(name) != now[name]]
    note = f"; not bit for bit as before, since {', '.join(changed)}" if changed else ""
    return f"resuming from the checkpoint of step {record.step}{note}"
