"""Threads that read, and a monitor that reports slow reads."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import Any, ParamSpec, TypeVar

log = logging.getLogger("transdomain")

T = TypeVar("T")
P = ParamSpec("P")

STALL_S = 60.0
"""Seconds without an image after which the slowest read is reported, and reported again."""


class ReadMonitor:
    """Monitor of this process's reads: reports them whenever a wait for one has taken too long."""

    def __init__(self, *, every_s: float = STALL_S) -> None:
        self._every_s = every_s
        self._reads: dict[int, tuple[float, str]] = {}
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def reading(self, url: str) -> Iterator[None]:
        """Register a read of `url` for as long as the block runs."""
        number = next(self._numbers)
        self._reads[number] = (time.monotonic(), url)
        try:
            yield
        finally:
            del self._reads[number]

    def until(self, arrived: Callable[[float], bool]) -> None:
        """Wait until `arrived` returns True; it is a function that waits for at most the given seconds."""
        began_s = time.monotonic()
        while not arrived(self._every_s):
            log.warning(f"no images for {time.monotonic() - began_s:.0f} s: {self._describe_reads()}")

    def result(self, future: Future[T]) -> T:
        """Wait for `future` and return its result; raises what it raises."""
        self.until(lambda timeout_s: bool(wait([future], timeout_s).done))
        return future.result()

    def _describe_reads(self) -> str:
        reads = sorted(self._reads.values())
        if not reads:
            return "they are being decoded"
        began_s, url = reads[0]
        others = f", and {len(reads) - 1} more" if len(reads) > 1 else ""
        return f"reading {url} since {time.monotonic() - began_s:.0f} s{others}"


class DaemonPool:
    """Pool of threads that run submitted functions in order.

    Unlike the threads of `ThreadPoolExecutor`, they end with the process even in the middle of a read that never
    returns.
    """

    def __init__(self, threads: int) -> None:
        self._queue: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        for _ in range(threads):
            threading.Thread(target=self._run, name="training-data", daemon=True).start()

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Submit `function` and return its future result."""
        future: Future[T] = Future()
        with self._changed:
            self._queue.append((future, lambda: function(*args, **kwargs)))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Cancel what has not begun, and wait for nothing."""
        with self._changed:
            self._closed = True
            for future, _ in self._queue:
                future.cancel()
            self._queue.clear()
            self._changed.notify_all()

    def __enter__(self) -> DaemonPool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return
                future, function = self._queue.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except BaseException as error:  # raised again where the result is asked for
                future.set_exception(error)
