"""Rows of a row group in a temporary file, decoded once, from which any of them are taken without reading the others.

The file has no name, so nothing is left of it however the process ends. It is mapped into memory, which the system can
take back at any time.
"""

from __future__ import annotations

import bisect
import mmap
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa

from pipeline import storage


class Spool(NamedTuple):
    """Batches of rows in a mapped file, each as an Arrow stream of its own."""

    data: pa.Buffer
    firsts: Sequence[int]
    """Number of the first row of each batch, and behind them the number of all rows."""
    places: Sequence[int]
    """Position of each batch."""

    def rows(self, start: int, stop: int) -> pa.Table:
        """Return rows `start` to `stop`, at least one."""
        batches = []
        for i in range(bisect.bisect_right(self.firsts, start) - 1, bisect.bisect_left(self.firsts, stop)):
            with pa.ipc.open_stream(self.data.slice(self.places[i])) as stream:
                batch = stream.read_next_batch()
            begin = max(start, self.firsts[i])
            batches.append(batch.slice(begin - self.firsts[i], min(stop, self.firsts[i + 1]) - begin))
        return pa.Table.from_batches(batches)


def has_room(size: int) -> bool:
    """Return True where the disk of temporary files has room for twice as many bytes."""
    return shutil.disk_usage(tempfile.gettempdir()).free > 2 * size


def spooled(batches: Iterable[pa.RecordBatch]) -> Spool:
    """Write batches to a temporary file. Raises StorageError where its disk is full."""
    firsts, places = [0], []
    remedy = "free some space there, or let TMPDIR name a folder on a larger disk"
    with storage.on_disk(tempfile.gettempdir(), remedy), tempfile.TemporaryFile() as file:
        for batch in batches:
            places.append(file.tell())
            with pa.ipc.new_stream(file, batch.schema) as stream:
                stream.write_batch(batch)
            firsts.append(firsts[-1] + len(batch))
        file.flush()
        return Spool(pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)), firsts, places)
