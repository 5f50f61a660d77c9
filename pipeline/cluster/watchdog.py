"""Protection against units that crash or hang their process: the process is ended, and such a unit fails in the end.

Ray Data restarts a process that died and gives it the same unit again, without end. So the executor on Ray counts each
attempt at a unit outside of the process, and a process that hangs in a unit is ended from here.
"""

from __future__ import annotations

import contextlib
import faulthandler
import time
from collections.abc import Callable, Iterator

MAX_DEATHS = 5
"""Number of processes that a unit may end in one stage of a run before it fails; a lost node counts, too."""


class FatalUnitError(Exception):
    """Failure of a unit that has ended too many processes."""


REPORT_EVERY_S = 0.5
"""Shortest time between two reports of the rows that are done."""

Report = Callable[[int], object]


class _Watch:
    """Watchdog and counter of this process, which handles one unit after the other."""

    stall_s: float | None = None
    wound_s = 0.0
    """Time of the last reset, in seconds of time.monotonic()."""
    rows = 0
    """Rows done since the unit began."""
    report: Report | None = None
    reported_s = 0.0


@contextlib.contextmanager
def watched(stall_s: float) -> Iterator[None]:
    """End this process where `made_progress` is not called for so many seconds."""
    _Watch.stall_s = stall_s
    _wind()
    try:
        yield
    finally:
        _Watch.stall_s = None
        faulthandler.cancel_dump_traceback_later()


@contextlib.contextmanager
def counted(report: Report) -> Iterator[Callable[[], int]]:
    """Call `report` now and then with the number of rows done in the block; yield a function that returns it."""
    _Watch.rows, _Watch.report, _Watch.reported_s = 0, report, 0.0
    try:
        yield lambda: _Watch.rows
    finally:
        _Watch.report = None


def made_progress(rows: int = 1) -> None:
    """Reset the watchdog, and count rows that are done. A stage calls this after each row, or every few rows."""
    _Watch.rows += rows
    if _Watch.report and time.monotonic() - _Watch.reported_s > REPORT_EVERY_S:
        _Watch.reported_s = time.monotonic()
        _Watch.report(_Watch.rows)
    if _Watch.stall_s is not None and time.monotonic() - _Watch.wound_s > min(1.0, _Watch.stall_s / 4):
        _wind()


def _wind() -> None:
    assert _Watch.stall_s is not None
    _Watch.wound_s = time.monotonic()
    # A thread in C, because the code that hangs may hold the interpreter. It prints the traceback to stderr's
    # descriptor and exits.
    faulthandler.dump_traceback_later(_Watch.stall_s, exit=True, file=2)
