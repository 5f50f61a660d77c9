"""Cache of footers of Parquet shards that are read piece by piece: each is read once, the least recent dropped."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

import pyarrow.parquet as pq

from pipeline import storage
from pipeline.storage.retry import retrying

_Key = tuple[str, str]
"""URL and version of a shard: a changed shard has another footer."""


class Footers:
    """Footers in memory, shared by all threads of a process."""

    def __init__(self, most_bytes: int) -> None:
        """Hold at most `most_bytes` of footers, as encoded, but always one."""
        self._most_bytes, self._held_bytes = most_bytes, 0
        self._held: OrderedDict[_Key, Future[pq.FileMetaData]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, url: str, version: str, read: Callable[[], pq.FileMetaData]) -> pq.FileMetaData:
        """Return the footer of a shard; unless it is held, call `read`, while other callers wait.

        Raises what `read` raises; the next call then reads again.
        """
        key = (url, version)
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
            else:
                self._held[key] = mine = Future[pq.FileMetaData]()
        if found is not None:
            return found.result()
        try:
            footer = read()
        except BaseException as error:
            with self._lock:
                del self._held[key]
            mine.set_exception(error)
            raise
        with self._lock:
            mine.set_result(footer)
            self._held_bytes += footer.serialized_size
            for old in [key for key, each in self._held.items() if each.done()][:-1]:
                if self._held_bytes <= self._most_bytes:
                    break
                self._held_bytes -= self._held.pop(old).result().serialized_size
        return footer


def read_footer(entry: storage.Entry) -> pq.FileMetaData:
    """Read the footer of a shard. Raises DamagedError where it has none."""

    def fetch() -> pq.FileMetaData:
        with storage.open_read(entry.url) as file:
            return pq.read_metadata(file)

    return retrying(fetch, entry.url)
