"""Rows of a row group in a temporary file, decoded once, from which any of them are taken without reading the others.

The file has no name, so nothing is left of it however the process ends.
"""

from __future__ import annotations

import bisect
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from typing import IO

import pyarrow as pa

from pipeline import storage


class Spool:
    """Batches of rows in a file, each as an Arrow stream of its own. The file is closed with the last use of this."""

    def __init__(self, file: IO[bytes], firsts: Sequence[int], places: Sequence[int]) -> None:
        """Take rows from `file`, in which batch i begins with row `firsts[i]` at byte `places[i]`.

        Both have the end of the last batch, too.
        """
        self._file, self._firsts, self._places = file, firsts, places
        self.size = places[-1]
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
            parts.append(os.pread(self._file.fileno(), self._places[i + 1] - at, at))
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
            file.flush()
    except BaseException:
        file.close()
        raise
    return Spool(file, firsts, places)
