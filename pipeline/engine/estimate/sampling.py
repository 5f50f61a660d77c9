"""Rows of a corpus that go through the stages of a job, to their bytes, without being published."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import usage
from pipeline.engine.publishing.commit import Sink
from pipeline.engine.publishing.steps import Workload
from pipeline.engine.records.account import FOOTER_KEY, Batch, account_of, batches_of, encode_account
from pipeline.engine.records.units import Unit
from pipeline.stores.tables.ranges import Range, first_rows

_WARM_ROWS = 4
"""Rows that go through first, so that what is done once is not timed."""


class Sampled(NamedTuple):
    """What rows took, on average of those that were drawn."""

    rows: int
    quarantined: int
    device_s: float
    """Seconds of the device for a row."""
    beside_s: float
    """Seconds of one core for a row: reading, decoding and encoding."""
    row_bytes: float
    """Bytes that are written for a row."""
    unit_bytes: float
    """Bytes that are written for a unit beside those of its rows."""
    error: float
    """Standard error of `row_bytes`."""


def try_out(workloads: Sequence[Workload], ranges: Sequence[Sequence[Range]], actors: int) -> tuple[int, list[Sampled]]:
    """Carry the rows of each work's `ranges` through its stages, in this process; write nothing.

    Returns `actors` as it was given, and what the rows of each work took; a row counts once for each part that the work
    makes. Raises what a stage raises.
    """
    return actors, [_carried(work, each) for work, each in zip(workloads, ranges, strict=True)]


def _carried(work: Workload, ranges: Sequence[Range]) -> Sampled:
    stages = [stage.make() for stage in work.stages]

    def carry(rows: Sequence[Range]) -> list[Batch]:
        """Return a batch for each part."""
        units = [Unit(f"000000-{i:06d}", tuple(rows), part) for i, part in enumerate(work.parts)]
        batches = [replace(batch, beside=tuple(units[1:])) for batch in batches_of(stages[0](units[0]))]
        for stage in stages[1:]:
            batches = [made for batch in batches for made in batches_of(stage(batch))]
        return batches

    of_stores = [[each for each in ranges if each.source == name] for name in {each.source: 0 for each in ranges}]
    carry(first_rows(of_stores[0], _WARM_ROWS))
    before, began_s = usage.take(), time.perf_counter()
    batches = [batch for rows in of_stores for batch in carry(rows)]  # a unit is of one store
    took_s, used = time.perf_counter() - began_s, usage.take()
    usage.note(before.plus(used))  # what it used stays used
    accounts = [account_of(batch, work.fingerprint) for batch in batches]
    unit_bytes = _unit_bytes(work.sink, max((batch.rows for batch in batches), key=len))
    rows = sum(account.inputs for account in accounts)
    whole = sum(_size(work.sink, b.rows, encode_account(a)) for b, a in zip(batches, accounts, strict=True))
    return Sampled(
        rows=rows,
        quarantined=sum(len(account.quarantined) for account in accounts),
        device_s=used.device_s / rows,
        beside_s=max(0.0, took_s - used.device_s) / rows,
        row_bytes=max(0, whole - unit_bytes * len(batches)) / rows,
        unit_bytes=unit_bytes,
        error=_error([batch.rows[work.sink.column] for batch in batches], rows),
    )


def _unit_bytes(sink: Sink, rows: pa.Table) -> int:
    """Return the bytes that two rows have each for itself and once less together: those that a unit has beside them."""
    if len(rows) < 2:
        return 0
    one, other, both = (_size(sink, rows.slice(*where), "") for where in ((0, 1), (1, 1), (0, 2)))
    return max(0, one + other - both)


def _size(sink: Sink, rows: pa.Table, note: str) -> int:
    """Return the bytes that are written for rows: the object that stands for them, and the files that it lists."""
    data, files = sink.form.encode(rows, {FOOTER_KEY: note}, sink.column, sink.extension)
    return len(data) + sum(map(len, files.values()))


def _error(images: Sequence[pa.ChunkedArray], rows: int) -> float:
    """Return the standard error of the mean bytes of an image over so many rows, of which some may have none."""
    lengths = [pc.binary_length(chunk.field("bytes")).to_numpy(False) for each in images for chunk in each.chunks]
    sizes = np.concatenate([*lengths, np.zeros(rows - sum(map(len, lengths)))])
    return float(sizes.std(ddof=1) / rows**0.5) if rows > 1 else 0.0
