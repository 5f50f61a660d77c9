"""Bounds of a unit, as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.errors import check_range

MOST_ROWS = 2048
"""Rows of a unit where nothing else bounds it."""
UNIT_S = 40.0
"""Longest time of a device for a unit, in seconds; rounded down to a power of two of rows, half a minute on average."""
LEAST_UNIT_S = 4.0
"""Shortest time of a device for a unit that is cut small so that all actors have some, in seconds; likewise rounded."""
UNITS_EACH = 4
"""Units for each actor, where the corpus is large enough."""

_STALL_S = 600.0
"""Seconds of silence of a process that decodes or encodes: its largest images take half a minute."""
_TIMES = 3
"""Memory of a process, in bounds on its decoded bytes: images come, are there, and go."""

OnChanged = Literal["fail", "set_aside"]
"""Treatment of inputs that have changed, or are gone, since they were planned."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one unit, whichever is reached first. A single row larger than them is a unit of its own."""

    rows: int | None = None
    """Rows of one unit; by default 2048, or as many fewer as take a device about half a minute and leave several units
    for each actor of a pool."""
    size_mb: float = 128.0
    """Encoded megabytes (10⁶ bytes)."""
    decoded_mb: float = 512.0
    """Megabytes of decoded images that a process holds; it takes up to three times as much memory, and a translating
    one that of the model beside it. A unit that has more travels encoded, and is decoded a part at a time."""
    stall_minutes: float | None = None
    """Minutes without a finished row, after which a process is ended and its unit retried (on Ray). By default ten for
    reading and writing images; for the model a hundred times an image's measured time, and at least one."""

    def widened(self, share: float) -> Limits:
        """Return limits for units of which only a `share` (in (0, 1]) of the rows is wanted: as many are then left."""
        return replace(self, rows=math.ceil(self.most_rows / share), size_mb=self.size_mb / share)

    @property
    def stall_s(self) -> float:
        """Return the seconds without a finished row after which a process that decodes or encodes is ended."""
        return _STALL_S if self.stall_minutes is None else self.stall_minutes * 60

    @property
    def decoded_bytes(self) -> int:
        """Return the bytes of decoded images that a process holds."""
        return int(self.decoded_mb * 1e6)

    @property
    def process_bytes(self) -> int:
        """Return the memory that a process takes at most, in bytes, besides a model's."""
        return _TIMES * self.decoded_bytes

    @property
    def most_rows(self) -> int:
        """Return the bound in rows."""
        return self.rows or MOST_ROWS

    def fitted(self, rows: int, *, seconds: float | None, actors: int, at_once: int = 1) -> Limits:
        """Return these limits with a bound in rows, where they have none, for a corpus of so many `rows`.

        `seconds` are those that a device takes for a row, and None where nobody has measured it. A unit takes the
        device about `UNIT_S`, and a small corpus has `UNITS_EACH` units for each of `actors`, but no unit takes less
        than `LEAST_UNIT_S`: below that its overhead shows. Nor has it fewer rows than an actor translates `at_once`.
        The bound is a power of two, so that layouts stay few.
        """
        if self.rows is not None or not seconds:
            return self
        most = min(UNIT_S / seconds, max(rows / (UNITS_EACH * actors), LEAST_UNIT_S / seconds))
        least = 2 ** math.ceil(math.log2(at_once))
        return replace(self, rows=min(MOST_ROWS, max(least, _power_of_two(most))))

    def holding(self, image_bytes: float) -> Limits:
        """Return these limits with as many rows as have `decoded_mb` where a decoded image has so many bytes.

        The bound is a power of two, and never more than before.
        """
        return replace(self, rows=min(self.most_rows, _power_of_two(self.decoded_bytes / max(image_bytes, 1))))

    def __post_init__(self) -> None:
        check_range("limits.rows", self.rows, least=1)
        check_range("limits.size_mb", self.size_mb, above=0)
        check_range("limits.decoded_mb", self.decoded_mb, above=0)
        check_range("limits.stall_minutes", self.stall_minutes, above=0)


def decoded_mb(process_bytes: int) -> float:
    """Return the bound on decoded megabytes of processes that take so much memory."""
    return process_bytes // _TIMES // 1_000_000


def _power_of_two(most: float) -> int:
    """Return the largest power of two up to `most`, at least 1."""
    return 2 ** math.floor(math.log2(max(most, 1)))
