"""Rows of a row group in a temporary file, decoded once, from which any of them are taken without reading the others.

The file has no name, so nothing is left of it however the process ends.
"""

from __future__ import annotations

import bisect
import os
import shutil
import struct
import tempfile
import weakref
from collections.abc import Iterable
from typing import IO

import numpy as np
import pyarrow as pa

from pipeline import storage

_INDEX = struct.Struct("<q")
"""End of the file: the length of each of the two lists before it."""


class Spool:
    """Batches of rows in a file, each as an Arrow stream of its own. The file is closed with the last use of this."""

    def __init__(self, file: IO[bytes]) -> None:
        """Take rows from a file that `spooled` has written. Raises ValueError where it is not whole."""
        self._file, self.descriptor = file, file.fileno()
        end = os.fstat(self.descriptor).st_size
        (count,) = _INDEX.unpack(os.pread(self.descriptor, _INDEX.size, end - _INDEX.size))
        index = os.pread(self.descriptor, 2 * 8 * count, end - _INDEX.size - 2 * 8 * count)
        firsts, places = np.frombuffer(index, np.int64).reshape(2, count)
        self._firsts: list[int] = firsts.tolist()
        """Number of each batch's first row, and of all rows."""
        self._places: list[int] = places.tolist()
        """Byte where each batch begins, and where the last one ends."""
        self.size = self._places[-1]
        weakref.finalize(self, file.close)

    def rows(self, start: int, stop: int) -> pa.Table:
        """Return rows `start` to `stop`, at least one."""
        batches = []
        for i in range(bisect.bisect_right(self._firsts, start) - 1, bisect.bisect_left(self._firsts, stop)):
            begin = max(start, self._firsts[i])
            batches.append(self._batch(i).slice(begin - self._firsts[i], min(stop, self._firsts[i + 1]) - begin))
        return pa.Table.from_batches(batches)

    def _batch(self, i: int) -> pa.RecordBatch:
        # Threads share the file, whose position is not used. One call gives at most 2 GB.
        parts, at = [], self._places[i]
        while at < self._places[i + 1]:
            parts.append(os.pread(self.descriptor, self._places[i + 1] - at, at))
            at += len(parts[-1])
        with pa.ipc.open_stream(b"".join(parts)) as stream:
            return stream.read_next_batch()


def has_room(size: int) -> bool:
    """Return True where the disk of temporary files has room for twice as many bytes."""
    return shutil.disk_usage(tempfile.gettempdir()).free > 2 * size


def spooled(batches: Iterable[pa.RecordBatch]) -> Spool:
    """Write batches to a temporary file. Raises StorageError where its disk is full."""
    firsts, places = [0], [0]
    file = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        with storage.on_disk(tempfile.gettempdir(), "free some space there, or set TMPDIR to another disk"):
            for batch in batches:
                with pa.ipc.new_stream(file, batch.schema) as stream:
                    stream.write_batch(batch)
                firsts.append(firsts[-1] + len(batch))
                places.append(file.tell())
            file.write(np.array([firsts, places], np.int64).tobytes() + _INDEX.pack(len(firsts)))
            file.flush()
    except BaseException:
        file.close()
        raise
    return Spool(file)
