"""Progress of a run for the person who started it: a bar on a terminal, else the lines of metrics."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TextIO

from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from pipeline import terminal
from pipeline.training.monitor.metrics import describe

_MIN_INTERVAL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """Progress of a run."""

    step: int
    total: int
    epoch: int
    epochs: int
    images_per_s: float
    line: Mapping[str, Any] | None = None
    """Line of metrics of this step, if there is one."""


Show = Callable[[RunProgress], None]


def show_nothing(progress: RunProgress) -> None:
    """Show nothing."""


class Ticker:
    """Reports progress after each step, but at most twice a second."""

    def __init__(self, show: Show, *, start: int, total: int, steps_per_epoch: int) -> None:
        self._show, self._total, self._steps_per_epoch = show, total, steps_per_epoch
        self._epochs = -(-total // steps_per_epoch)
        self._last_s, self._last_images, self._images, self._rate = time.monotonic(), 0, 0, 0.0
        self._report(start, None)

    def step(self, done: int, images: int) -> None:
        """Note that `done` steps are done, and that the last one had `images` images."""
        self._images += images
        elapsed_s = time.monotonic() - self._last_s
        if elapsed_s > _MIN_INTERVAL_S:
            self._rate = (self._images - self._last_images) / elapsed_s
            self._last_s, self._last_images = self._last_s + elapsed_s, self._images
            self._report(done, None)

    def line(self, line: Mapping[str, Any]) -> None:
        """Pass a line of metrics on."""
        self._rate = line["images_per_s"]
        self._report(line["step"], line)
        self._last_s, self._last_images = time.monotonic(), self._images  # excludes the time of a validation

    def _report(self, done: int, line: Mapping[str, Any] | None) -> None:
        self._show(
            RunProgress(
                step=done,
                total=self._total,
                epoch=max(0, done - 1) // self._steps_per_epoch + 1,
                epochs=self._epochs,
                images_per_s=self._rate,
                line=line,
            )
        )


class Screen(Protocol):
    """Context manager that shows a run."""

    def __enter__(self) -> Screen: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def print_line(self, line: str) -> None: ...

    def update(self, progress: RunProgress) -> None: ...


def open_screen(run: str, stream: TextIO | None = None) -> Screen:
    """Return the bar where `stream` (stdout by default) is a terminal, else lines."""
    stream = terminal.raw(stream or sys.stdout)
    return Bar(run, stream) if stream.isatty() else Lines(stream)


class Lines:
    """Prints each line of metrics on a line of its own, as a log needs it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None: ...

    def print_line(self, line: str) -> None:
        self._stream.write(f"{terminal.escaped(line)}\n")
        self._stream.flush()

    def update(self, progress: RunProgress) -> None:
        if progress.line:
            self.print_line(describe(progress.line, progress.total))


class Bar:
    """Progress bar with step, epoch, speed and time left; log lines scroll by above it.

    Below it are the last losses and the path of the metrics.
    """

    def __init__(self, run: str, stream: TextIO) -> None:
        self._bar = _BarWithLines(
            BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("steps"), TextColumn("{task.fields[pace]}"),
            TimeRemainingColumn(), TextColumn("left"),
            console=terminal.console(stream), speed_estimate_period=120.0,
        )  # fmt: skip
        self._log = terminal.escaped(f"log: {run}/metrics.jsonl")
        self._bar.below = ["starting the workers", self._log]
        self._losses, self._validation = "", ""
        self._task: TaskID | None = None

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def print_line(self, line: str) -> None:
        self._bar.console.print(terminal.escaped(line), highlight=False, soft_wrap=True)

    def update(self, progress: RunProgress) -> None:
        if progress.line:
            self._losses = _numbers("losses", progress.line["losses"])
            if scores := progress.line.get("validation"):
                self._validation = _numbers(f"validation at step {progress.step}", scores)
        self._bar.below = [line for line in (self._losses, self._validation, self._log) if line]
        pace = f"epoch {progress.epoch}/{progress.epochs}  {progress.images_per_s:.1f} images/s"
        if self._task is None:  # created late: only this start's steps count for the time left
            self._task = self._bar.add_task("train", total=progress.total, completed=progress.step, pace=pace)
        self._bar.update(self._task, completed=progress.step, pace=pace)


class _BarWithLines(Progress):
    below: Sequence[str] = ()

    def get_renderables(self) -> Iterator[RenderableType]:
        yield from super().get_renderables()
        for line in self.below:
            yield Text(line, style="dim", overflow="fold")


def _numbers(title: str, values: Mapping[str, float]) -> str:
    return f"{title}: " + "  ".join(f"{name} {value:.3g}" for name, value in values.items())
