"""Checkpoint writer of the one rank that writes: decides when a checkpoint is due, and writes it in the background.

The state is copied between two steps. A thread encodes and publishes it, one checkpoint at a time. A failed write is
logged and the training continues, since the last good checkpoint still exists and the next write may succeed. After
several failures in a row the run stops, since continuing would only waste work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from pipeline.errors import one_line
from pipeline.training.checkpoints import checkpoint
from pipeline.training.checkpoints.checkpoint import State
from pipeline.training.config.train import TrainConfig

log = logging.getLogger("transdomain")

MOST_FAILURES = 3
"""Number of failed checkpoints in a row at which the run stops."""


class CheckpointWriter:
    """Checkpoint writer of a run, from a start to its end."""

    def __init__(self, config: TrainConfig, about: Mapping[str, Any]) -> None:
        """Put `about` into every record."""
        self._config, self._about = config, about
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: tuple[int, Future[None]] | None = None
        self._failures = 0
        self._saved_s = time.monotonic()

    def due(self, done: int) -> bool:
        """Return True where a checkpoint is due after `done` steps."""
        config = self._config
        minutes = (time.monotonic() - self._saved_s) / 60
        return done % config.checkpoint_every == 0 or minutes >= config.checkpoint_minutes

    def save(
        self,
        done: int,
        state: Mapping[str, State],
        *,
        first: Callable[[], None] = lambda: None,
        also: Collection[int] = (),
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin to write the checkpoint of step `done`; the caller may change `state` once this returns.

        Waits for the previous checkpoint. The writer's thread calls `first` before it writes the checkpoint. The
        checkpoints of the steps in `also` are kept, however old; `about` goes into this record only. Raises
        CheckpointError where the previous checkpoint was the last of several in a row that failed.
        """
        self.wait()
        self._saved_s = time.monotonic()
        copies = {name: copied(part) for name, part in state.items()}
        self._writing = (done, self._thread.submit(self._write, done, copies, first, also, dict(about or {})))

    def wait(self, *, allowed: int = MOST_FAILURES - 1) -> None:
        """Wait until nothing is being written. Raises CheckpointError after more than `allowed` failures in a row."""
        if self._writing is None:
            return
        (step, writing), self._writing = self._writing, None
        error = writing.exception()
        if error is None:
            self._failures = 0
            return
        self._failures += 1
        reason = one_line(error)
        line = f"{self._config.output}: the checkpoint of step {step} could not be written ({reason}); {self._last()}"
        if self._failures > allowed:
            raise checkpoint.CheckpointError(
                f"{line}: make room or mend the storage, then run the same command"
            ) from error
        log.warning("%s", line)

    def finish(self) -> None:
        """Wait for the last checkpoint. Raises CheckpointError where it could not be written."""
        try:
            self.wait(allowed=0)
        finally:
            self._thread.shutdown()

    def _write(
        self,
        step: int,
        state: Mapping[str, State],
        first: Callable[[], None],
        also: Collection[int],
        about: Mapping[str, Any],
    ) -> None:
        first()
        checkpoint.save(self._config.output, step, state, {**self._about, **about})
        checkpoint.prune(self._config.output, self._config.keep_checkpoints, also=also)

    def _last(self) -> str:
        kept = checkpoint.steps(self._config.output)
        return f"the last good one is of step {kept[-1]}" if kept else "there is none yet"


def copied(value: Any) -> Any:
    """Return `value` with every tensor copied to the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    return value
