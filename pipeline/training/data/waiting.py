"""Threads that read, and somebody who says so when they take too long."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

STALL_S = 60.0
"""A reader that has brought nothing for so long is named, and named again each time it has been as long once more."""


class Waiting:
    """What this process is reading, said whenever something has been waited for in vain."""

    def __init__(self, say: Callable[[str], None], *, who: str = "", every_s: float = STALL_S) -> None:
        """`who` begins each line, where others say the same."""
        self._say, self._who, self._every_s = say, who, every_s
        self._reads: dict[int, tuple[float, str]] = {}
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def reading(self, url: str) -> Iterator[None]:
        """Around a read of `url`."""
        number = next(self._numbers)
        self._reads[number] = (time.monotonic(), url)
        try:
            yield
        finally:
            del self._reads[number]

    def until(self, arrived: Callable[[float], bool]) -> None:
        """Wait for `arrived`, which is given the seconds that it may wait and says whether it was worth it."""
        began_s = time.monotonic()
        while not arrived(self._every_s):
            self._say(f"{self._who}no images for {time.monotonic() - began_s:.0f} s: {self._doing()}")

    def result(self, future: Future[T]) -> T:
        """The result of `future`, once it is there; raises what it raises."""
        self.until(lambda timeout_s: bool(wait([future], timeout_s).done))
        return future.result()

    def _doing(self) -> str:
        reads = sorted(self._reads.values())
        if not reads:
            return "they are being decoded"
        began_s, url = reads[0]
        others = f", and {len(reads) - 1} more" if len(reads) > 1 else ""
        return f"reading {url} since {time.monotonic() - began_s:.0f} s{others}"


class Pool:
    """Threads that do what they are given, in this order.

    Unlike those of `ThreadPoolExecutor` they end with the process even in the middle of a read that never returns.
    """

    def __init__(self, threads: int) -> None:
        self._work: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        for _ in range(threads):
            threading.Thread(target=self._run, name="training-data", daemon=True).start()

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """What `function` will give or raise."""
        future: Future[T] = Future()
        with self._changed:
            self._work.append((future, lambda: function(*args, **kwargs)))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Cancel what has not begun, and wait for nothing."""
        with self._changed:
            self._closed = True
            for future, _ in self._work:
                future.cancel()
            self._work.clear()
            self._changed.notify_all()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._work or self._closed)
                if not self._work:
                    return
                future, function = self._work.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except BaseException as error:  # whoever asks for the result gets it
                future.set_exception(error)
