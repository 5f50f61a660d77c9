"""Account of what a process uses: requests to object stores, and the time and the work of its device.

Each process counts for itself. Who carries a unit takes the account at the end of a step and hands it on with the unit,
so that the sums are right wherever the steps ran.
"""

from __future__ import annotations

import os
import threading
from typing import NamedTuple


class Usage(NamedTuple):
    """Amounts that were used."""

    put: int = 0
    """Requests that write or list, which stores charge most for. Only those to S3 are counted, here and below."""
    get: int = 0
    """Requests that read an object, or look it up."""
    device_s: float = 0.0
    """Seconds that devices computed; units that share a device share its time."""
    flop: float = 0.0
    """Multiplications and additions of the generators' convolutions; 0 for a program, which does not say them."""

    def plus(self, other: Usage) -> Usage:
        """Return the sums of both."""
        return Usage(self.put + other.put, self.get + other.get, self.device_s + other.device_s, self.flop + other.flop)

    def part(self, count: int) -> Usage:
        """Return what each of `count` units that were made together has taken of a device."""
        return Usage(device_s=self.device_s / count, flop=self.flop / count)


NOTHING = Usage()

_used = NOTHING
_lock = threading.Lock()


def _after_fork() -> None:
    """Forget a lock that a thread of the parent may hold, and what the parent used."""
    global _lock, _used
    _lock, _used = threading.Lock(), NOTHING


os.register_at_fork(after_in_child=_after_fork)


def note(used: Usage) -> None:
    """Add to the account of this process. Safe for several threads."""
    global _used
    with _lock:
        _used = _used.plus(used)


def take() -> Usage:
    """Return what this process has used since the last call, and begin anew."""
    global _used
    with _lock:
        used, _used = _used, NOTHING
    return used
