"""Return of memory to the system by processes that have no use for it.

A process that computes keeps what it has freed, since taking it again costs time (`host.WORKER_ENVIRONMENT`). One that
decodes and encodes would need twice the memory then, since images are of all sizes, and one that waits for work would
keep it from the others.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

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
                _Work.timer = threading.Timer(IDLE_S, _give_back_if_idle)
                _Work.timer.daemon = True
                _Work.timer.start()


def let_go_of_store() -> None:
    """Take the pages of Ray's object store, which all processes share, out of this process's resident memory.

    They stay there once they have been touched, until a process counts as much of the store as it has ever read and
    written. The store keeps them, and one that is still in use comes back when it is touched again, in a microsecond.
    """
    if not (advise := getattr(ctypes.CDLL(None), "madvise", None)):
        return
    with contextlib.suppress(FileNotFoundError):  # there is no /proc
        for start, end in re.findall(r"(?m)^(\w+)-(\w+) \S+s .*/plasma", Path("/proc/self/maps").read_text()):
            first, after = int(start, 16), int(end, 16)
            advise(ctypes.c_void_p(first), ctypes.c_size_t(after - first), _DONT_NEED)


_DONT_NEED = 4
"""MADV_DONTNEED of madvise(2)."""


def return_freed() -> None:
    """Let this process return large blocks as soon as they are free, as glibc does by default."""
    _set(trim_threshold=128 << 10, top_pad=128 << 10, mmap_threshold=128 << 10, mmap_max=65_536)


def keep_freed() -> None:
    """Let this process keep what it frees, as `host.WORKER_ENVIRONMENT` does for those that are still to be started."""
    _set(trim_threshold=2**31 - 1, top_pad=256 << 20, mmap_threshold=128 << 10, mmap_max=0)


def note_size(size: tuple[int, int]) -> None:
    """Note the height and width of the image that is computed next; give back what is of no use for it.

    What `keep_freed` keeps serves images of the same size. It lies in pieces that fit no others, and it grows with each
    image, since glibc fits aligned blocks badly into those that it has.
    """
    if size == _Kept.size:
        if time.monotonic() - _Kept.looked_s < _LOOK_EVERY_S:
            return
        kept, _Kept.looked_s = _free_bytes(), time.monotonic()
        _Kept.bytes = _Kept.bytes or kept
        if kept > _Kept.bytes + _ROOM_BYTES:
            give_back()
    elif max(math.prod(size), math.prod(_Kept.size)) > _LARGE_PIXELS:
        give_back()
        _Kept.bytes = 0
    _Kept.size = size


_LOOK_EVERY_S = 0.1
"""Shortest time between two looks at what is kept."""
_LARGE_PIXELS = 1 << 20
_ROOM_BYTES = 256 << 20
"""Bytes that are kept besides those of one image."""


class _Kept:
    size = (0, 0)
    """Size of the last image."""
    bytes = 0
    """Free bytes after the first image of that size; 0 before."""
    looked_s = 0.0
    """Time of the last look, in seconds of time.monotonic()."""


class _Mallinfo2(ctypes.Structure):
    """Result of mallinfo2(3)."""

    _fields_: ClassVar = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]  # fmt: skip


def _free_bytes() -> int:
    """Return the bytes that glibc's allocator holds free; 0 where there is another one."""
    if look := getattr(ctypes.CDLL(None), "mallinfo2", None):
        look.restype = _Mallinfo2
        return int(look().fordblks)
    return 0


def _set(*, trim_threshold: int, top_pad: int, mmap_threshold: int, mmap_max: int) -> None:
    """Set parameters of glibc's allocator by mallopt(3); do nothing where there is another one."""
    if change := getattr(ctypes.CDLL(None), "mallopt", None):
        for number, value in ((-1, trim_threshold), (-2, top_pad), (-3, mmap_threshold), (-4, mmap_max)):
            change(number, value)


def _give_back_if_idle() -> None:
    with _Work.lock:
        if _Work.threads:
            return
    give_back()


def give_back() -> None:
    """Give the memory that this process has freed back to the system."""
    pa.default_memory_pool().release_unused()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc alone has it
        trim(0)
