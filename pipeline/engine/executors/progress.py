"""Progress of a run: a bar on a terminal, else a line now and then; in images, from the first one on."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rich.progress import BarColumn, Progress, TextColumn

from pipeline import terminal
from pipeline.engine.executors.flow import EMPTY, Snapshot, counted_stage, slowest_stage
from pipeline.engine.publishing.steps import Receipt, Stage, Task

log = logging.getLogger("transdomain")

_LOOK_EVERY_S = 1.0
_LOOK_FOR_LINES_EVERY_S = 5.0
_FIRST_LINE_S = 10.0
_LINE_EVERY_S = 30.0
_WINDOW_S = 60.0
"""Last seconds by which the rate is measured."""


class Counts(NamedTuple):
    """Images of a run at one moment."""

    done: int
    """Images with a result: in a committed unit, whoever committed it, or computed in one that is on its way."""
    planned: int
    quarantined: int
    stage: str
    """Stage that the others wait for; empty where none is at work."""


class Meter:
    """Images done and to do, and their rate."""

    def __init__(
        self, title: str, stages: Sequence[Stage], planned: int, committed: Callable[[], tuple[int, int]]
    ) -> None:
        """Count towards `planned` images. `committed` returns how many are in a commit, and how many quarantined."""
        self.title, self._stages, self._planned, self._committed = title, stages, planned, committed
        self.look: Callable[[Sequence[Task]], Snapshot] = lambda ended: EMPTY
        """Function that says where the units in flight are, without those that have ended since it was last called; the
        executor sets it."""
        self._ended = list[Task]()
        self._seen: deque[tuple[float, int]] = deque()

    def ended(self, receipt: Receipt) -> None:
        """Note that a unit has ended: its rows are among the committed, or it has failed."""
        self._ended.append(receipt.task)

    def counts(self) -> Counts:
        """Return the counts of this moment."""
        ended, self._ended = self._ended, []
        at, (committed, quarantined) = self.look(ended), self._committed()
        on_their_way = at.rows.get(counted_stage(self._stages), 0)
        return Counts(committed + on_their_way, self._planned, quarantined, slowest_stage(self._stages, at))

    def line(self, now: float, counts: Counts) -> str:
        """Return the state in words, with the rate over the last minute; for moments in their order."""
        self._seen.append((now, counts.done))
        while now - self._seen[0][0] > _WINDOW_S and len(self._seen) > 2:
            self._seen.popleft()
        then, before = self._seen[0]
        parts = [f"{min(counts.done, counts.planned):,} of {counts.planned:,} images"]
        if counts.done > before:
            rate = (counts.done - before) / (now - then)
            parts += [f"{rate:.3g} img/s", f"{duration((counts.planned - counts.done) / rate)} left"]
        if counts.quarantined:
            parts.append(f"{counts.quarantined:,} quarantined")
        if counts.stage:
            parts.append(f"slowest stage: {counts.stage}")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a number of seconds in words, to two places."""
    seconds = max(0, round(seconds))
    for size, name, below, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if seconds >= size:
            return f"{seconds // size} {name} {seconds % size // below} {smaller}"
    return f"{seconds // 60} min" if seconds >= 60 else f"{seconds} s"


def shown(receipts: Iterator[Receipt], meter: Meter) -> Iterator[Receipt]:
    """Yield the receipts as they come, and show the progress on stderr beside them."""
    over = threading.Event()
    show = _bar if terminal.raw(sys.stderr).isatty() else _lines
    thread = threading.Thread(target=show, args=(meter, over), name="progress", daemon=True)
    thread.start()
    try:
        for receipt in receipts:
            meter.ended(receipt)
            yield receipt
    finally:
        over.set()
        thread.join()


def _bar(meter: Meter, over: threading.Event) -> None:
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[line]}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=terminal.console(sys.stderr)) as bar:
        task = bar.add_task(terminal.escaped(meter.title), total=None, line="")
        ended = False
        while not ended:
            ended = over.wait(_LOOK_EVERY_S)
            counts = meter.counts()
            line = terminal.escaped(meter.line(time.monotonic(), counts))
            bar.update(task, completed=min(counts.done, counts.planned), total=counts.planned, line=line)


def _lines(meter: Meter, over: threading.Event) -> None:
    due = time.monotonic() + _FIRST_LINE_S
    while not over.wait(_LOOK_FOR_LINES_EVERY_S):
        line = meter.line(now := time.monotonic(), meter.counts())
        if now >= due:
            due = now + _LINE_EVERY_S
            log.info("%s: %s", meter.title, line)
