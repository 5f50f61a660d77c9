"""Equal contents, or equal keys, among any number of images, with bounded memory.

Each is a digest of 16 bytes with the number of its split and of its row. They are spread over files by the digest, and
compared file by file.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline import storage

_PARTITIONS = 64
_ROWS = 65_536
"""Digests that are held before they are written."""
_RECORD = np.dtype([("digest", "S16"), ("split", np.int32), ("row", np.int64)])
MOST_EXAMPLES = 5

Place = tuple[int, int]
"""Number of a split, and of a row in it."""


@dataclass
class Equal:
    """What is equal to what."""

    groups: int = 0
    """Number of digests that occur more than once in one split."""
    repeated: int = 0
    """Number of rows that repeat an earlier one of their split."""
    examples: list[tuple[Place, Place]] = field(default_factory=list)
    """Some of these: a row and one that repeats it."""
    shared: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Number of digests that occur in both of two splits, the lesser one first."""
    shared_examples: dict[tuple[int, int], list[tuple[Place, Place]]] = field(default_factory=dict)


class Digests:
    """Digests of the rows of all splits."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        """Open the files, which are gone when `stack` is closed."""
        self._files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(_PARTITIONS)]  # noqa: SIM115
        self._waiting: list[tuple[bytes, int, int]] = []

    def add(self, split: int, rows: Sequence[tuple[bytes, int]]) -> None:
        """Add rows of a split: digest of 16 bytes, and number of the row."""
        # A zero at its end would be lost in an array of bytes.
        self._waiting += [(digest[:15] + b"\1", split, row) for digest, row in rows]
        if len(self._waiting) >= _ROWS:
            self._write()

    def _write(self) -> None:
        records = np.array(self._waiting, _RECORD)
        self._waiting = []
        leading = np.ascontiguousarray(records["digest"]).view(np.uint8).reshape(-1, _RECORD["digest"].itemsize)[:, 0]
        first = leading % _PARTITIONS
        with storage.on_disk(tempfile.gettempdir(), "free some space, or set TMPDIR to another disk"):
            for number in np.unique(first):
                self._files[number].write(records[first == number].tobytes())

    def equal(self) -> Equal:
        """Return what is equal to what, in all that was added."""
        self._write()
        found = Equal()
        for file in self._files:
            file.seek(0)
            records = np.frombuffer(file.read(), _RECORD)
            records = records[np.lexsort((records["row"], records["split"], records["digest"]))]
            same = records["digest"][1:] == records["digest"][:-1]
            if same.any():
                _note(found, records[np.append(same, False) | np.insert(same, 0, False)])
        return found


def _note(found: Equal, records: np.ndarray) -> None:
    """Note rows of which each is equal to another one, sorted by digest, split and row."""
    for _, group in itertools.groupby(records.tolist(), key=lambda record: record[0]):
        places = [(split, row) for _, split, row in group]
        of_split = [list(rows) for _, rows in itertools.groupby(places, key=lambda place: place[0])]
        for rows in of_split:
            if len(rows) > 1:
                found.groups += 1
                found.repeated += len(rows) - 1
                if len(found.examples) < MOST_EXAMPLES:
                    found.examples.append((rows[0], rows[1]))
        for one, two in itertools.combinations([rows[0] for rows in of_split], 2):
            pair = (one[0], two[0])
            found.shared[pair] += 1
            examples = found.shared_examples.setdefault(pair, [])
            if len(examples) < MOST_EXAMPLES:
                examples.append((one, two))
