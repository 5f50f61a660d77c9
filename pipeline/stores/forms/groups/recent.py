"""Cache of what is read from shards again and again (footers, places of pages): the least recent is dropped."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Values in memory, shared by all threads of a process."""

    def __init__(self, most_bytes: int, size: Callable[[T], int]) -> None:
        """Hold at most `most_bytes` of values, as `size` counts them, but always one."""
        self._most_bytes, self._held_bytes, self._size = most_bytes, 0, size
        self._held: OrderedDict[Hashable, Future[T]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """Return the value of `key`; unless it is held, call `read`, while other callers of this key wait.

        A key names the version of its shard, since a changed shard has other values. Raises what `read` raises; the
        next call then reads again.
        """
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
            else:
                self._held[key] = mine = Future[T]()
        if found is not None:
            return found.result()
        try:
            value = read()
        except BaseException as error:
            with self._lock:
                del self._held[key]
            mine.set_exception(error)
            raise
        with self._lock:
            mine.set_result(value)
            self._held_bytes += self._size(value)
            for old in [key for key, each in self._held.items() if each.done()][:-1]:
                if self._held_bytes <= self._most_bytes:
                    break
                self._held_bytes -= self._size(self._held.pop(old).result())
        return value
