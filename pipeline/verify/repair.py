"""Remove what is broken, and only that, so that the job's next run makes it again; remove leftovers of killed runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import storage
from pipeline.engine.records.card import publish_card
from pipeline.engine.records.layout import CARD, Output, load_unit
from pipeline.errors import StorageError
from pipeline.report.dataset.croissant import publish_croissant
from pipeline.stores import SourceChangedError
from pipeline.stores.tables.ranges import Range
from pipeline.stores.tables.schema import require_unchanged
from pipeline.verify.fault import Fault
from pipeline.verify.job import Verdict

_DERIVED = ("_SUCCESS", "_transdomain/manifest.parquet")
"""Records that would call a broken output complete."""


@dataclass(frozen=True, kw_only=True)
class Repair:
    """Removed objects, and faults that are left to a person."""

    removed: Sequence[str]
    """Names of the removed objects, in the order of removal."""
    written: Sequence[str]
    """Names of the objects that were written anew."""
    left: Sequence[tuple[Fault, str]]
    """Faults that no removal mends, each with its remedy."""


def repair(verdict: Verdict) -> Repair:
    """Remove the broken records of each unit that can be made again, so that the job's next run makes them.

    Sound objects are not touched. A unit whose source is gone or has changed keeps what it has.
    """
    output = Output(verdict.url)
    left, names = list[tuple[Fault, str]](), dict[str, None]()
    for fault in verdict.faults:
        if not fault.remove:
            left.append((fault, fault.remedy))
            continue
        why = _cannot_be_read(load_unit(output, fault.unit).ranges) if fault.unit else ""
        if why:
            left.append((fault, f"its unit cannot be made again: {why}; put the source or the object back from a copy"))
        else:
            names.update(dict.fromkeys(fault.remove))
    # Records that say that all is well go first, so that no output is called complete whose repair was killed.
    ordered = [*(_DERIVED if any(name not in _DERIVED for name in names) else ()), *names]
    removed = [name for name in dict.fromkeys(ordered) if storage.stat_file(output.at(name)) is not None]
    for name in removed:
        storage.delete(output.at(name))
    written = [fault.name for fault, _ in left if fault.name == CARD]
    if written:  # its head follows from the marks of the versions, and no job's next run need write it
        publish_card(output)
        publish_croissant(output)
    return Repair(removed=removed, written=written, left=[each for each in left if each[0].name != CARD])


def _cannot_be_read(ranges: Sequence[Range]) -> str:
    """Return why a unit's source is not the one that was planned; empty where it is."""
    try:
        for planned in ranges:
            require_unchanged(planned)
    except (SourceChangedError, StorageError, OSError) as error:
        return str(error)
    return ""


def clean(verdict: Verdict, now: float, older_than_s: float = 86_400) -> int:
    """Remove leftovers and unfinished uploads older than `older_than_s` at `now` (time.time()); return their number."""
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
