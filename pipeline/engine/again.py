"""Inputs that an output has quarantined, to be run again once the cause is mended.

They become a further segment, in which each is planned once more. An input is known by its key: where a later segment
has it, what that one says is the truth about it, and the totals count it once. What is good then becomes data for the
first time, since a quarantined input never was. Which inputs are worth it is a function of what is committed: those
that were never run again, and those that were, by another recipe or from a file that has changed since. So the same
command, given again, finds nothing to do.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.engine.comparison import numbers_of
from pipeline.engine.completion import finish
from pipeline.engine.records.layout import Output, is_finished, load_unit, load_units, unit_ids
from pipeline.engine.records.units import Segment, segment_of
from pipeline.errors import UserError
from pipeline.recipe import PAGE_OF, fingerprint, has_rows_of_pages
from pipeline.stores import Store, read_rows
from pipeline.stores.forms import shard
from pipeline.stores.forms.registry import form_named
from pipeline.stores.tables.ranges import Ranges

log = logging.getLogger("transdomain")

_THREADS = 8


class Quarantined(NamedTuple):
    """Input that is quarantined."""

    key: str
    shard: str
    unit: str
    """Unit that quarantined it, the last that had it."""


def keys_run_again(output: Output, segments: Sequence[Segment]) -> dict[str, int]:
    """Return the last segment, by key, of those inputs that were run again, as far as its units are committed."""
    committed = output.committed()
    found = dict[str, int]()
    for segment in segments:
        units = [unit for unit in unit_ids(segment) if unit in committed] if segment.again else []
        manifest = finish.manifest_table(finish.read_commits(output, [segment], units))
        good = finish.keys_of(output, manifest, PAGE_OF if has_rows_of_pages(segment.recipe) else "key")
        bad = ([row.key for row in rows] for rows in _rows_of(output, units))
        found |= {key: segment.number for keys in itertools.chain(good, bad) for key in keys}
    return found


def _rows_of(output: Output, units: Sequence[str]) -> Iterator[list[Quarantined]]:
    """Yield the quarantined rows of those of these units that have any."""
    entries = storage.list_files(output.at("_quarantine"), ".parquet")
    there = {entry.name.removesuffix(".parquet") for entry in entries if not storage.is_hidden(entry.name)}

    def read(unit: str) -> list[Quarantined]:
        rows = shard.read_columns(output.quarantine(unit), ["key", "source_shard"]).to_pylist()
        return [Quarantined(row["key"], row["source_shard"], unit) for row in rows]

    yield from storage.ahead(read, [unit for unit in units if unit in there], _THREADS)


def still_quarantined(output: Output, segments: Sequence[Segment]) -> list[Quarantined]:
    """Return the inputs that are quarantined, by the last word on each, in the order of the plan."""
    again, committed = keys_run_again(output, segments), output.committed()
    units = [unit for segment in segments for unit in unit_ids(segment) if unit in committed]
    return [row for rows in _rows_of(output, units) for row in rows if again.get(row.key, -1) <= segment_of(row.unit)]


def quarantined_inputs(output: Output, segments: Sequence[Segment], source: Store, recipe: Mapping[str, Any]) -> Ranges:
    """Return the rows of `source` that are quarantined and worth another try by this recipe; say what is left out.

    Raises UserError where not all of the plan is made: which inputs are quarantined is then not known.
    """
    committed = output.committed()
    nothing = source.ranges_of(np.zeros(0, np.int64))
    left = [segment for segment in segments if not is_finished(segment, committed)]
    if left and left[-1].again:
        return nothing  # a run before this one has planned it, and this one goes on with it
    if left:
        raise UserError(f"{output.url}: is not finished; run the job without --from_quarantine first")
    rows = still_quarantined(output, segments)
    by_number = {segment.number: segment for segment in segments}
    tried = {row.key for row in rows if _was_tried(by_number[segment_of(row.unit)], recipe)}
    if form_named(source.form).names_are_keys:
        found, reasons = _files(output, segments, rows, tried, source)
    else:
        found, reasons = _rows_of_shards(output, rows, tried, source)
    if rows:
        why = "".join(f"; {count} {reason}" for reason, count in reasons.items() if count)
        log.info("%s: %d of %d quarantined inputs are run again%s", output.url, found.rows, len(rows), why)
    else:
        log.info("%s: nothing is quarantined", output.url)
    return found


_GONE, _TRIED, _CHANGED = (
    "are gone", "were run again already, and neither they nor what makes them has changed",
    "are of shards that have changed since, which are no longer what was planned",
)  # fmt: skip


def _was_tried(segment: Segment, recipe: Mapping[str, Any]) -> bool:
    return segment.again and fingerprint(segment.recipe) == fingerprint(recipe)


def _files(
    output: Output, segments: Sequence[Segment], rows: Sequence[Quarantined], tried: set[str], source: Store
) -> tuple[Ranges, dict[str, int]]:
    """Return the files of these rows as they are now, and how many are left out, by reason."""
    numbers = numbers_of(source.shards, pa.array([row.shard for row in rows], pa.string()))
    versions = dict[str, str]()
    if tried:
        for segment in segments:
            for unit in load_units(output, segment.number) if segment.again else ():
                versions |= {piece.shard: piece.version for piece in unit.ranges}
    which, reasons = list[int](), {_GONE: 0, _TRIED: 0}
    for row, number in zip(rows, numbers.tolist(), strict=True):
        if number < 0:
            reasons[_GONE] += 1
        elif row.key in tried and source.shards[number].version == versions.get(row.shard):
            reasons[_TRIED] += 1
        else:
            which.append(number)
    return source.ranges_of(np.unique(np.array(which, np.int64))), reasons


def _rows_of_shards(
    output: Output, rows: Sequence[Quarantined], tried: set[str], source: Store
) -> tuple[Ranges, dict[str, int]]:
    """Return these rows of shards that are as they were planned, and how many are left out, by reason."""
    wanted = dict[str, set[str]]()
    reasons = {_TRIED: 0, _CHANGED: 0}
    for row in rows:
        if row.key in tried:
            reasons[_TRIED] += 1
        else:
            wanted.setdefault(row.unit, set()).add(row.key)
    pieces = [(unit, piece) for unit in wanted for piece in load_unit(output, unit).ranges]
    numbers = numbers_of(source.shards, pa.array([piece.shard for _, piece in pieces], pa.string())).tolist()
    found = list[tuple[int, int, int, int]]()
    for (unit, piece), number in zip(pieces, numbers, strict=True):
        now = source.shards[number] if number >= 0 else None
        if now is None or now.version != piece.version:
            continue  # its rows may be others now
        there = read_rows([piece], [])["key"].to_pylist()
        each = piece.size // max(piece.rows, 1)
        at = [piece.start + i for i, key in enumerate(there) if key in wanted[unit]]
        found += [(number, start, start + 1, each) for start in at]
        wanted[unit].difference_update(there)
    reasons[_CHANGED] = sum(map(len, wanted.values()))
    columns = np.array(sorted(set(found)), np.int64).reshape(-1, 4).T
    return Ranges(source.shards, columns[0], columns[1], columns[2], columns[3], source.source), reasons
