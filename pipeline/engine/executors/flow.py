"""Units between their first stage and their commit: where each is, and how many of its rows are done there.

Plain data, kept beside the driver; the processes of the stages tell it what they begin, go on with and end.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.engine.publishing.steps import Stage


class Snapshot(NamedTuple):
    """State of the stages at one moment."""

    rows: Mapping[str, int]
    """Rows done in each stage, of units that are neither committed nor failed."""
    running: Mapping[str, int]
    """Units at work, by stage."""
    waiting: Mapping[str, int]
    """Units that have ended one stage and not begun the next, by the stage that they have ended."""


EMPTY = Snapshot({}, {}, {})


@dataclass
class _Unit:
    stage: str
    running: bool = True
    rows: Counter[str] = field(default_factory=Counter)


class Flow:
    """Units of one run that are between two of its stages, or in one. Safe for several threads.

    Sums are kept up to date: tens of thousands of units may wait for a slow stage, and somebody asks every second.
    """

    def __init__(self, last: str) -> None:
        """Create the account of a run whose last stage has this name."""
        self._last, self._lock = last, threading.Lock()
        self._units: dict[tuple[int, str], _Unit] = {}
        self._rows, self._running, self._waiting = Counter[str](), Counter[str](), Counter[str]()

    def begin(self, work: int, unit: str, stage: str) -> None:
        """Note that a unit begins a stage; what an earlier process has done of it there counts no more."""
        with self._lock:
            known = self._taken(work, unit) or _Unit(stage)
            known.stage, known.running = stage, True
            known.rows[stage] = 0
            self._put(work, unit, known)

    def advance(self, work: int, unit: str, stage: str, rows: int) -> None:
        """Note that so many of a unit's rows are done in a stage."""
        with self._lock:
            if known := self._taken(work, unit):
                known.rows[stage] = rows
                self._put(work, unit, known)

    def end(self, work: int, unit: str, stage: str, rows: int) -> None:
        """Note that a unit has ended a stage, with so many rows done; it is forgotten after the last one."""
        with self._lock:
            known = self._taken(work, unit)
            if known and stage != self._last:
                known.running &= known.stage != stage  # the next stage may have begun in another process already
                known.rows[stage] = rows
                self._put(work, unit, known)

    def forget(self, work: int, unit: str) -> None:
        """Note that a unit has failed, or was made by another run."""
        with self._lock:
            self._taken(work, unit)

    def snapshot(self, ended: Iterable[tuple[int, str]] = ()) -> Snapshot:
        """Return the state without the units that have `ended`, which are forgotten: news of them may come late."""
        for unit in ended:
            self.forget(*unit)
        with self._lock:
            return Snapshot(*(dict(+sums) for sums in (self._rows, self._running, self._waiting)))

    def _taken(self, work: int, unit: str) -> _Unit | None:
        """Take a unit out, and out of all sums; return it, or None where it is not held."""
        known = self._units.pop((work, unit), None)
        if known:
            self._rows.subtract(known.rows)
            (self._running if known.running else self._waiting)[known.stage] -= 1
        return known

    def _put(self, work: int, unit: str, known: _Unit) -> None:
        self._units[work, unit] = known
        self._rows.update(known.rows)
        (self._running if known.running else self._waiting)[known.stage] += 1


def counted_stage(stages: Sequence[Stage]) -> str:
    """Return the name of the stage whose rows stand for progress: the pool's, which computes, else the last one."""
    return next((stage.name for stage in stages if stage.actors), stages[-1].name)


def slowest_stage(stages: Sequence[Stage], at: Snapshot) -> str:
    """Return the name of the stage that the others wait for; empty where none is at work.

    It is the one with most units waiting before it; where none waits, the first one at work is too slow for the rest.
    """
    names = [stage.name for stage in stages]
    before = {name: at.waiting.get(previous, 0) for previous, name in itertools.pairwise(names)}
    most = max(before.values(), default=0)
    if most:
        return next(name for name in reversed(names) if before.get(name) == most)
    return next((name for name in names if at.running.get(name)), "")
