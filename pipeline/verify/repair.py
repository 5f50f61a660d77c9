"""Remove what is broken, and only that, so that the job's next run makes it again; remove what kills left behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import storage
from pipeline.engine.records.layout import Output
from pipeline.errors import StorageError
from pipeline.stores import SourceChangedError
from pipeline.stores.tables.ranges import Range
from pipeline.stores.tables.schema import require_unchanged
from pipeline.verify.fault import Fault
from pipeline.verify.job import Verdict

_DERIVED = ("_SUCCESS", "_transdomain/manifest.parquet")
"""Speak of units that are broken as if they were whole."""


@dataclass(frozen=True, kw_only=True)
class Repair:
    """Faults of an output that were mended, and those left to a person."""

    removed: Sequence[str]
    """Names of objects, in the order of their removal."""
    left: Sequence[tuple[Fault, str]]
    """Faults that no removal mends, each with what to do about it."""


def repair(verdict: Verdict) -> Repair:
    """Remove the broken records of each unit that can be made again, so that the job's next run does so.

    What is sound is not touched. A unit whose source is gone, or another, keeps what it has.
    """
    output = Output(verdict.url)
    units = {unit.id: unit for unit in verdict.records.units}
    left, names = list[tuple[Fault, str]](), dict[str, None]()
    for fault in verdict.faults:
        if not fault.remove:
            left.append((fault, fault.remedy))
            continue
        why = _cannot_be_read(units[fault.unit].ranges) if fault.unit else ""
        if why:
            left.append((fault, f"its unit cannot be made again: {why}; put the source or the object back from a copy"))
        else:
            names.update(dict.fromkeys(fault.remove))
    # First what says that all is well: killed on the way, the output is not called complete.
    ordered = [*(_DERIVED if any(name not in _DERIVED for name in names) else ()), *names]
    removed = [name for name in dict.fromkeys(ordered) if storage.stat_file(output.at(name)) is not None]
    for name in removed:
        storage.delete(output.at(name))
    return Repair(removed=removed, left=left)


def _cannot_be_read(ranges: Sequence[Range]) -> str:
    """Why a unit's source is not the one that was planned; empty where it is."""
    try:
        for planned in ranges:
            require_unchanged(planned)
    except (SourceChangedError, StorageError, OSError) as error:
        return str(error)
    return ""


def clean(verdict: Verdict, now: float, older_than_s: float = 86_400) -> int:
    """Remove leftovers and unfinished uploads that are older than a day; returns how many. `now` is seconds of
    time.time()."""
    removed = 0
    for entry in verdict.leftovers:
        age = storage.age_s(entry.url, now)
        if age is not None and age > older_than_s:
            storage.delete(entry.url)
            removed += 1
    for upload in verdict.uploads:
        if now - upload.started > older_than_s:
            storage.abort_upload(upload)
            removed += 1
    return removed
