"""Protection against units that crash or hang their process: the process is ended, and such a unit fails in the end.

Ray Data restarts a process that died and gives it the same unit again, without end. So the executor on Ray counts each
attempt at a unit outside of the process, and a process that hangs in a unit is ended from here.
"""

from __future__ import annotations

import contextlib
import faulthandler
import threading
import time
from collections.abc import Callable, Iterator
from typing import ClassVar

MAX_DEATHS = 5
"""Number of processes that a unit may end in one stage of a run before it is taken apart; a lost node counts, too."""
MAX_DEATHS_APART = 2
"""Number of processes that it may end after that before it fails."""
PATIENT_S = 3600.0
"""Seconds for what finishes no rows, and ends by itself in most cases: a model is loaded, a store answers."""


class FatalUnitError(Exception):
    """Failure of a unit that has ended too many processes."""


REPORT_EVERY_S = 0.5
"""Shortest time between two reports of the rows that are done."""

Report = Callable[[int], object]


class _Watch:
    """Watchdog of this process, for all units that it works on at once."""

    lock = threading.Lock()
    stalls: ClassVar[list[float]] = []
    """Longest silence of each unit at work, in seconds."""
    wound_s = 0.0
    """Time of the last reset, in seconds of time.monotonic()."""


class _Count(threading.local):
    """Unit that this thread works on."""

    stall_s: float | None = None
    """Longest silence, in seconds; None where nobody watches."""

    rows = 0
    """Rows done since the unit began."""
    report: Report | None = None
    reported_s = 0.0


_count = _Count()


@contextlib.contextmanager
def watched(stall_s: float) -> Iterator[None]:
    """End this process where no thread of it calls `made_progress` for so many seconds."""
    before, _count.stall_s = _count.stall_s, stall_s
    _change(add=stall_s)
    try:
        yield
    finally:
        _count.stall_s = before
        _change(remove=stall_s)


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """Allow this thread `PATIENT_S` without a finished row inside the block, where it may have less."""
    watched_s = _count.stall_s
    if watched_s is None or watched_s >= PATIENT_S:
        yield
        return
    _change(add=PATIENT_S, remove=watched_s)
    try:
        yield
    finally:
        _change(add=watched_s, remove=PATIENT_S)


def _change(*, add: float | None = None, remove: float | None = None) -> None:
    with _Watch.lock:
        if add is not None:
            _Watch.stalls.append(add)
        if remove is not None:
            _Watch.stalls.remove(remove)
        if _Watch.stalls:
            _wind()
        else:
            faulthandler.cancel_dump_traceback_later()


@contextlib.contextmanager
def counted(report: Report) -> Iterator[Callable[[], int]]:
    """Call `report` now and then with the number of rows that this thread has done in the block.

    Yields a function that returns it.
    """
    _count.rows, _count.report, _count.reported_s = 0, report, 0.0
    try:
        yield lambda: _count.rows
    finally:
        _count.report = None


def made_progress(rows: int = 1) -> None:
    """Reset the watchdog, and count rows that are done. A stage calls this after each row, or every few rows."""
    _count.rows += rows
    if _count.report and time.monotonic() - _count.reported_s > REPORT_EVERY_S:
        _count.reported_s = time.monotonic()
        _count.report(_count.rows)
    with _Watch.lock:
        if _Watch.stalls and time.monotonic() - _Watch.wound_s > min(1.0, min(_Watch.stalls) / 4):
            _wind()


def last_progress_s() -> float:
    """Return the time of the last progress of any thread, in seconds of time.monotonic(), while somebody watches."""
    return _Watch.wound_s


def _wind() -> None:
    _Watch.wound_s = time.monotonic()
    # A thread in C, because the code that hangs may hold the interpreter. It prints the traceback to stderr's
    # descriptor and exits.
    faulthandler.dump_traceback_later(min(_Watch.stalls), exit=True, file=2)


class Turns:
    """Turns of the units that a process works on at once: those that have ended one before wait until they are alone.

    So the next death is theirs, and no other unit's.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._at_work, self._alone = 0, False

    @contextlib.contextmanager
    def turn(self, *, alone: bool) -> Iterator[None]:
        """Wait for the turn, and hold it in the block."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._alone = alone  # nobody begins after it
            self._changed.wait_for(lambda: not (alone and self._at_work))
            self._at_work += 1
        try:
            yield
        finally:
            with self._changed:
                self._at_work -= 1
                self._alone = self._alone and not alone
                self._changed.notify_all()


turns = Turns()
"""Turns of this process."""
