"""Work ahead of its reader: many small requests at once, in order, with a bounded number of them in flight."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger("transdomain")

_SAY_EVERY_S = 10.0


def ahead(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield `function(item)` for each item, in order, computed by so many threads.

    At most twice as many results as threads are in flight, or wait to be taken, however many items there are. Raises
    what `function` raises, at its item. Whoever stops taking, by an error or an interrupt, waits for nothing: what was
    not begun is dropped.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    in_flight: deque[Future[R]] = deque()
    try:
        for item in items:
            if len(in_flight) == 2 * threads:
                yield in_flight.popleft().result()
            in_flight.append(pool.submit(function, item))
        while in_flight:
            yield in_flight.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class Progress:
    """Log line about a long count, now and then, so that nobody takes it for a hang."""

    def __init__(self, line: Callable[[int], str]) -> None:
        """Say `line(count)` about every ten seconds, the first time after as long."""
        self._line, self._said_s = line, time.monotonic()

    def at(self, count: int) -> None:
        """Say how far it is, where it is time to."""
        if (now := time.monotonic()) - self._said_s >= _SAY_EVERY_S:
            self._said_s = now
            log.info("%s", self._line(count))


def told(items: Iterable[T], line: Callable[[int], str]) -> Iterator[T]:
    """Yield the items; say `line(count)` now and then where that takes long."""
    progress = Progress(line)
    for count, item in enumerate(items, 1):
        yield item
        progress.at(count)
