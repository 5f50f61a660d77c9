"""Monitoring of a run between its steps: metrics, dashboards, sample grids, validation, guards.

It changes no bit of what is learnt. Rank 0 makes samples and validates while the other ranks wait for it in their next
collective, so this must finish within that collective's timeout (30 minutes under Ray Train).
"""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import StorageError, UserError, one_line
from pipeline.stores import SourceChangedError
from pipeline.training.checkpoints.samples import grid, sample_images, samples_of
from pipeline.training.data.context import Context
from pipeline.training.data.loader import ImageSet, TrainingDataError
from pipeline.training.model.replica import Replica
from pipeline.training.monitor import guards, metrics
from pipeline.training.monitor.console import Show, Ticker
from pipeline.training.monitor.metrics import Journal
from pipeline.training.monitor.sinks import Dashboard, open_sinks
from pipeline.training.validation.validator import History, Validator, stopped_early, validation_sources

log = logging.getLogger("transdomain")


class Watch:
    """One rank's part of monitoring. Rank 0 does the work; decisions are the same on all ranks.

    A context manager: at its end it publishes the last lines and closes the sinks, whatever ended the run.
    """

    history: History
    """History of validations, including those of earlier starts, for a checkpoint's record; the same on every rank."""

    exploded: Sequence[str] = ()
    """Losses of the last line of metrics that have exploded, each with a description."""

    def __init__(self, context: Context, replica: Replica, *, start: int, history: History, show: Show) -> None:
        """Continue after step `start`, with the `history` of its checkpoint."""
        config = context.config
        self._config, self._sources, self._replica, self._group = config, context.sources, replica, context.group
        self._total = context.total_steps
        self.history = [dict(entry) for entry in history]
        self._recent: list[Mapping[str, float]] = []
        self._warned: set[str] = set()
        self._validator: Validator | None = None
        self._samples: ImageSet | None = None
        self._journal: Journal | None = None
        self._ticker: Ticker | None = None
        self._sinks: Sequence[Dashboard] = ()
        self._closing = contextlib.ExitStack()
        if self._group.leads:
            self._journal = Journal(config.output, step=start)
            self._recent = self._journal.losses(guards.RECENT)
            self._sinks = open_sinks(config.watch, config.output, config.recipe(), step=start)
            for sink in self._sinks:
                self._closing.callback(self._close, sink.close)
            self._closing.callback(self._close, self._journal.close)
            self._ticker = Ticker(show, start=start, total=self._total, steps_per_epoch=context.order.steps_per_epoch)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def prepare(self) -> None:
        """Read the images to validate on. Every rank must call this before the steps. Raises RunError on failure."""
        with self._group.raise_on_all_ranks(ValueError, UserError, SourceChangedError):
            if self._group.leads and self._config.validation.input:
                self._validator = Validator(self._config, self._replica.device)

    def validates(self, step: int) -> bool:
        """Return True where a validation follows `step`, and so a line of metrics and a checkpoint."""
        return self._config.validation.due(step) or (step == self._total and bool(self._config.validation.input))

    def logs(self, step: int) -> bool:
        """Return True where a line of metrics follows `step`."""
        return step % self._config.log_every == 0 or step == self._total or self.validates(step) or self._draws(step)

    def step(self, step: int, images: int) -> None:
        """Note that `step` is done, with `images` images over all ranks. The cost is negligible."""
        if self._ticker:
            self._ticker.step(step, images)

    def check(self, line: Mapping[str, Any], networks: Mapping[str, nn.Module]) -> None:
        """Complete the line of metrics of a log step and report it; validate and draw samples where they are due.

        Every rank must call this after the step. `networks`, named as in the objective, are validated and drawn with.
        """
        step, losses = line["step"], line["losses"]
        self.exploded = guards.exploded(self._recent, losses, self._config.watch.explosion)
        self._recent = [*self._recent[-guards.RECENT :], dict(losses)]
        if self._journal and self._ticker:
            line = dict(line) | {"gradient_norms": gradient_norms(self._replica)} | _gpu_memory(self._replica.device)
            self._warn_of_idle_discriminators(step)
            numbers = metrics.scalars(line)
            # What is no number is the guards' to report, right after this.
            shows = (self.validates(step) or self._draws(step)) and self._replica.is_finite()
            if shows:
                networks = with_weights(networks, self._replica.averages)
            if shows and self._validator and self.validates(step):
                line["validation"] = self._validate(step, networks)
            with self._tolerating_failures():
                self._journal.add(line)
            for sink in self._sinks:
                with self._tolerating_failures():
                    sink.scalars(step, numbers)
            if shows and self._draws(step):
                self._draw(step, networks)
            self._ticker.line(line)
        if self.validates(step):
            self.history = self._group.from_leader(self.history)

    def stops(self, step: int) -> str:
        """Return why training ends early after `step`; empty where it continues. The same on all ranks."""
        config = self._config.validation
        return stopped_early(self.history, config.metric, config.patience) if self.validates(step) else ""

    def snapshot(self) -> Callable[[], None]:
        """Return a function that publishes everything noted so far, on any thread; call it before a checkpoint.

        A resumed run continues from what was published with its checkpoint.
        """
        publish = self._journal.snapshot() if self._journal else lambda: None

        def write() -> None:
            publish()
            for sink in self._sinks:
                sink.write()

        return write

    def _close(self, close: Callable[[], None]) -> None:
        with self._tolerating_failures("the last ones are missing"):
            close()

    @contextlib.contextmanager
    def _tolerating_failures(self, then: str = "training goes on") -> Iterator[None]:
        """Log a failed write in the block, and continue; the next write includes what was lost."""
        try:
            yield
        except (OSError, StorageError) as error:
            reason = one_line(error)
            log.warning(f"{self._config.output}: metrics could not be written ({reason}); {then}")

    def _draws(self, step: int) -> bool:
        every = self._config.watch.sample_every
        return bool(every) and step % every == 0

    def _validate(self, step: int, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        """Measure `networks`, and record and report their scores."""
        assert self._validator
        scores = self._validator.measure(networks)
        self.history = [*self.history, {"step": step, **scores}]
        for sink in self._sinks:
            with self._tolerating_failures():
                sink.validation(step, scores)
        return scores

    def _draw(self, step: int, networks: Mapping[str, nn.Module]) -> None:
        if not self._sinks:
            return
        if self._samples is None:
            held_out = self._config.validation.input
            try:
                sources = validation_sources(self._config) if held_out else self._sources
                self._samples = sample_images(self._config, sources)
            except (TrainingDataError, SourceChangedError) as error:
                log.warning(f"step {step}: no samples: {error}")
                return
        for samples in samples_of(self._config, networks, self._samples):
            pixels = grid(samples)
            for sink in self._sinks:
                sink.picture(step, f"samples/{samples.learned.generator}", pixels)

    def _warn_of_idle_discriminators(self, step: int) -> None:
        idle = guards.idle_discriminators(self._recent)
        for name, length in idle.items():
            if name not in self._warned:
                log.warning(
                    f"step {step}: the loss of {name} has been about zero for {length} lines of metrics: it tells real "
                    "from translated without fail, and the generator learns little from it; try a lower learning rate "
                    "of the discriminators, another gan_loss or pool_size"
                )
        self._warned = set(idle)


def gradient_norms(replica: Replica) -> dict[str, float]:
    """Return the L2 norm of the last update's gradients, over all generators and over all discriminators.

    The gradients are those of the global batch, on any rank: DDP has averaged them, and each kind of network keeps its
    own until its next update.
    """
    found = {}
    for kind, names in (
        ("generators", replica.objective.generator_names),
        ("discriminators", replica.objective.discriminator_names),
    ):
        gradients = [p.grad for p in replica.objective.parameters(names) if p.grad is not None]
        found[kind] = float(nn.utils.get_total_norm(gradients)) if gradients else 0.0
    return found


def with_weights(networks: Mapping[str, nn.Module], states: Mapping[str, Mapping[str, Tensor]]) -> dict[str, nn.Module]:
    """Return `networks`, with copies that hold the weights in `states` in place of the networks named there."""
    found = dict(networks)
    for name, weights in states.items():
        found[name] = copy.deepcopy(networks[name])
        found[name].load_state_dict(weights)
    return found


def _gpu_memory(device: torch.device) -> dict[str, float]:
    """Return the most memory that tensors took since the last line, in 10^9 bytes."""
    if device.type != "cuda":
        return {}
    peak_bytes = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return {"gpu_memory_gb": round(peak_bytes / 1e9, 3)}
