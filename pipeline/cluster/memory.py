"""Return of memory to the system by processes that have no use for it.

A process that computes keeps what it has freed, since taking it again costs time (`host.WORKER_ENVIRONMENT`). One that
decodes and encodes would need twice the memory then, since images are of all sizes, and one that waits for work would
keep it from the others.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator

import pyarrow as pa

IDLE_S = 2.0
"""Seconds without work after which a process gives back what it does not use."""


class _Work:
    """Threads of this process that are at work, and the timer that runs while there are none."""

    lock = threading.Lock()
    threads = 0
    timer: threading.Timer | None = None


@contextlib.contextmanager
def at_work() -> Iterator[None]:
    """Mark this thread as at work; `IDLE_S` after the last one has left, give unused memory back."""
    with _Work.lock:
        _Work.threads += 1
        if _Work.timer is not None:
            _Work.timer.cancel()
    try:
        yield
    finally:
        with _Work.lock:
            _Work.threads -= 1
            if not _Work.threads:
                _Work.timer = threading.Timer(IDLE_S, _give_back)
                _Work.timer.daemon = True
                _Work.timer.start()


def return_freed() -> None:
    """Let this process return large blocks as soon as they are free, as glibc does by default."""
    _set(trim_threshold=128 << 10, top_pad=128 << 10, mmap_threshold=128 << 10, mmap_max=65_536)


def keep_freed() -> None:
    """Let this process keep what it frees, as `host.WORKER_ENVIRONMENT` does for those that are still to be started."""
    _set(trim_threshold=2**31 - 1, top_pad=256 << 20, mmap_threshold=128 << 10, mmap_max=0)


def _set(*, trim_threshold: int, top_pad: int, mmap_threshold: int, mmap_max: int) -> None:
    """Set parameters of glibc's allocator by mallopt(3); do nothing where there is another one."""
    if change := getattr(ctypes.CDLL(None), "mallopt", None):
        for number, value in ((-1, trim_threshold), (-2, top_pad), (-3, mmap_threshold), (-4, mmap_max)):
            change(number, value)


def _give_back() -> None:
    with _Work.lock:
        if _Work.threads:
            return
    pa.default_memory_pool().release_unused()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc alone has it
        trim(0)
