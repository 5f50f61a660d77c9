"""Units that end or hang their process: such a process is ended, and such a unit fails instead of coming back for ever.

Ray Data starts a process that died again and gives it the same unit, without end. So whoever begins a unit says so
outside of the process (`on_ray` counts), and a process that hangs in one is ended from here.
"""

from __future__ import annotations

import contextlib
import faulthandler
import time
from collections.abc import Iterator

MAX_DEATHS = 5
"""Processes that a unit may end in a stage within a run before it fails; a lost node costs a process, too."""


class FatalUnitError(Exception):
    """The unit has ended too many processes."""


class _Watch:
    """The watchdog of this process, whose units come one after the other."""

    stall_s: float | None = None
    wound_s = 0.0
    """Of time.monotonic()."""


@contextlib.contextmanager
def watched(stall_s: float) -> Iterator[None]:
    """End this process where no row is `got_on` with for so many seconds."""
    _Watch.stall_s = stall_s
    _wind()
    try:
        yield
    finally:
        _Watch.stall_s = None
        faulthandler.cancel_dump_traceback_later()


def got_on() -> None:
    """To be called by a stage after each row, or each few."""
    if _Watch.stall_s is not None and time.monotonic() - _Watch.wound_s > min(1.0, _Watch.stall_s / 4):
        _wind()


def _wind() -> None:
    assert _Watch.stall_s is not None
    _Watch.wound_s = time.monotonic()
    # A thread of C, since what hangs may hold the interpreter. It says where on the descriptor of stderr, and exits.
    faulthandler.dump_traceback_later(_Watch.stall_s, exit=True, file=2)
