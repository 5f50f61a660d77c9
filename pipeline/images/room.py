"""Room for decoded images that the threads of a process share."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Room:
    """Memory that is taken and given back; nothing is allocated."""

    def __init__(self, size: int) -> None:
        """Have room for so many bytes, or for one image, however large."""
        self._size, self._held, self._changed = size, 0, threading.Condition()

    @contextlib.contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Wait until there is room for so many bytes, and hold it in the block."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + size <= self._size)
            self._held += size
        try:
            yield
        finally:
            with self._changed:
                self._held -= size
                self._changed.notify_all()
