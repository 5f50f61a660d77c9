"""Planning of a run: the inputs that are in no segment yet, under the recipe and from the sources of the output.

A segment is created exclusively and never changed. So everything that could be wrong with it is checked first: another
input under the same output, inputs that have changed, keys that occur twice.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import failpoints, storage
from pipeline.engine.records.layout import Output, count_segments, is_finished, load_segments, read_plan
from pipeline.engine.records.units import PlannedSource, Segment, Unit, encode_segment, segment_of
from pipeline.errors import UserError
from pipeline.recipe import Change, differences
from pipeline.stores.tables.ranges import Range

log = logging.getLogger("transdomain")

_THREADS = 16
_MOST_GONE = 1000
_UNIT = re.compile(r"\d{6}-\d{6}")
_VERSIONS = "versions."
"""Prefix of the names of those settings that are versions of libraries."""

Cut = Callable[[Sequence[Range], int], Sequence[Unit]]
"""Function from ranges and the number of a segment to the units of that segment."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Inputs and recipe that a run wants to plan."""

    job: str
    """Kind of the job."""
    ranges: Sequence[Range]
    """All ranges of the sources, planned or not."""
    sources: Mapping[str, PlannedSource]
    recipe: Mapping[str, Any]
    measured: Mapping[str, Any]
    """Figures by which a part of the recipe was chosen."""
    cut: Cut
    label: str = ""
    """Label of the one segment that the run is about; without one it is about all segments."""
    moved: bool = False
    """True where the user says that the sources are the recorded ones, at another place."""


class OtherRecipeError(UserError):
    """Output, or slot, that was begun with another recipe."""


class Planned(NamedTuple):
    """Plan of an output, as a run finds or leaves it."""

    segments: list[Segment]
    changed: list[str]
    """URLs of inputs that have changed since they were planned."""
    gone: list[str]
    """Names of some inputs that were planned and are gone."""


def plan_new_inputs(
    output: Output, wanted: Request, found: tuple[Planned, Sequence[Unit] | None] | None = None
) -> Planned:
    """Return the plan of `output`, after adding a segment for the shards that are in none yet.

    Each segment is created exclusively; the run that loses the race for a number reads the winner's segment and plans
    again with what is left. A label names exactly one segment. It has all inputs that were new when it was created,
    even if there were none. `found` is what `next_segment` returned just now, where it was called; the plan is not read
    again for it. Raises OtherRecipeError where this output, or this label, was begun with another recipe, and UserError
    where it was begun from other sources.
    """
    created = False
    while True:
        planned, units = found or next_segment(output, wanted)
        found = None
        segments = planned.segments
        if units is None:
            return planned
        if created:
            raise RuntimeError(f"{output.plan(len(segments) - 1)} was planned, and its inputs still count as new")
        if segments:
            storage.delete(output.success)
        number = len(segments)
        failpoints.point("before plan")
        data = encode_segment(
            units,
            number=number,
            job=wanted.job,
            recipe=wanted.recipe,
            measured=wanted.measured,
            sources=wanted.sources,
            label=wanted.label,
        )
        created = storage.create(output.plan(number), data)
        failpoints.point("after plan")


def next_segment(output: Output, wanted: Request) -> tuple[Planned, Sequence[Unit] | None]:
    """Return the plan of `output`, and the units of the next segment; None where no segment is to be added."""
    segments = load_segments(output)
    for segment in segments:
        if segment.job != wanted.job:
            raise UserError(
                f"{output.url} is the output of jobs.{segment.job}, not of jobs.{wanted.job}; give another output"
            )
    bound = [segment for segment in segments if segment.label == wanted.label]
    has_moved = bool(bound) and not wanted.label and _sources_moved(output, segments, wanted)
    _require_same_recipe(output, bound, wanted)
    if bound and wanted.label:
        return Planned(segments, [], []), None
    fresh, changed, gone = compare(wanted.ranges, _planned_ranges(output, len(segments)))
    if has_moved and gone:
        raise UserError(
            f"{output.url}: not the same store at another place: {len(gone)} inputs that were planned, such as "
            f"{gone[0]}, are not there; give the right place, or another output"
        )
    if wanted.label:
        _require_alike_elsewhere(output, segments, wanted, changed)
    if not fresh and not wanted.label:
        return Planned(segments, changed, gone), None
    _require_no_traces(output, len(segments))
    units = wanted.cut(fresh, len(segments))
    # An empty segment would be followed by another empty one, without end.
    return Planned(segments, changed, gone), units if units or wanted.label else None


def _require_no_traces(output: Output, number: int) -> None:
    """Raise UserError where there are commits of segment `number` or a later one, but no such segment.

    The plan has then lost its end, and new units would be taken for those that were made.
    """
    found = [unit for unit in output.committed() if _UNIT.fullmatch(unit) and segment_of(unit) >= number]
    if found and count_segments(output) <= segment_of(min(found)):  # else another run has just planned and begun it
        raise UserError(
            f"{output.plan(number)} is missing, and units of it are committed, such as {min(found)}; put it back from "
            "a copy, or give another output"
        )


def compare(
    ranges: Sequence[Range], planned: Iterable[tuple[str, str, str, str, int]]
) -> tuple[list[Range], list[str], list[str]]:
    """Return new ranges, changed URLs, and the names of some inputs that are gone.

    The ranges are those of shards that were never planned; the URLs are those of shards that have changed since they
    were planned. `planned` has source, shard, url, version and size of every planned range. A shard at its old place is
    compared by its version; one at another place, where its version says nothing, by its size. A pure function.
    """
    kept = [piece for piece in ranges if piece.rows]  # a range without rows is in no unit, so always new
    number: dict[tuple[str, str], int] = {}
    first: list[Range] = []
    sizes: list[int] = []
    for piece in kept:
        i = number.setdefault((piece.source, piece.shard), len(first))
        if i == len(first):
            first.append(piece)
            sizes.append(0)
        sizes[i] += piece.size
    known, differs, elsewhere = (np.zeros(len(first), bool) for _ in range(3))
    planned_sizes = np.zeros(len(first), np.int64)
    gone: dict[str, None] = {}
    for source, shard, url, version, size in planned:
        at = number.get((source, shard))
        if at is None:
            if len(gone) < _MOST_GONE:
                gone[shard] = None
            continue
        known[at] = True
        if url == first[at].url:
            differs[at] |= version != first[at].version
        else:
            elsewhere[at] = True
            planned_sizes[at] += size
    differs |= elsewhere & (planned_sizes != np.array(sizes, np.int64))
    fresh = [piece for piece in kept if not known[number[piece.source, piece.shard]]]
    return fresh, [first[i].url for i in np.flatnonzero(differs)], list(gone)


def _require_same_recipe(output: Output, bound: Sequence[Segment], wanted: Request) -> None:
    """Raise UserError, with the difference, where a segment was begun under another recipe.

    The versions of libraries may differ once the whole segment is made.
    """
    committed: set[str] | None = None
    for segment in bound:
        changes = differences(segment.recipe, wanted.recipe)
        if changes and all(change.name.startswith(_VERSIONS) for change in changes):
            committed = output.committed() if committed is None else committed
            if is_finished(segment, committed):
                continue
        if changes:
            raise OtherRecipeError(_other_recipe(output, segment, changes))


def _other_recipe(output: Output, segment: Segment, changes: Sequence[Change]) -> str:
    what, how = output.url, "give another output"
    if segment.label:
        what, how = f"{output.url}: slot {segment.label}", "a slot keeps its own, so run it with those"
    elif all(change.name.startswith(_VERSIONS) for change in changes):
        how = f"finish what is planned with those first, or {how}"
    said = "; ".join(f"{name}: {before} there, {now} now" for name, before, now in changes)
    return f"{what} was begun with other settings ({said}); {how}"


def _sources_moved(output: Output, segments: Sequence[Segment], wanted: Request) -> bool:
    """Return True where the newest segment was planned from the same stores at other places.

    Raises UserError where the places differ and the user does not say that the stores moved, or where units planned at
    the old places are left.
    """
    before = {name: source.url for name, source in segments[-1].sources.items()}
    now = {name: source.url for name, source in wanted.sources.items()}
    if before == now:
        return False
    difference = f"made from {', '.join(before.values())}, and the input is {', '.join(now.values())}"
    if not wanted.moved:
        raise UserError(
            f"{output.url}: {difference}; give another output, or add --moved where it is the same store at another "
            "place"
        )
    committed = output.committed()
    if not all(is_finished(segment, committed) for segment in segments):
        raise UserError(
            f"{output.url}: {difference}, and not all that was planned there is made; finish it from the old place "
            "first, or give another output"
        )
    return True


def _require_alike_elsewhere(
    output: Output, segments: Sequence[Segment], wanted: Request, changed: Sequence[str]
) -> None:
    """Raise UserError where a named source has moved and files of known names have changed there.

    The name decides whether an input is new, so those files would be left out.
    """
    before = {name: source.url for segment in segments for name, source in segment.sources.items()}
    for name, source in wanted.sources.items():
        there = [url for url in changed if url.startswith(f"{source.url}/")]
        if there and before.get(name, source.url) != source.url:
            raise UserError(
                f"{output.url}: source {name} was at {before[name]} and is at {source.url} now, where {len(there)} "
                f"files of known names are others, such as {there[0]}; they would be left out: give them new names, or "
                "the source another name"
            )


def _planned_ranges(output: Output, segments: int) -> Iterator[tuple[str, str, str, str, int]]:
    """Yield source, shard, url, version and size of every range of the plan, segment by segment.

    Every part of a segment covers all its inputs, so the ranges of one part are enough.
    """
    names = ("source", "shard", "url", "version", "size")
    columns = ["part", *(f"ranges.list.element.{name}" for name in names)]

    def read(file: Any) -> pa.Table:
        table = pq.ParquetFile(file, page_checksum_verification=True).read(columns)
        return table.filter(pc.equal(table["part"], table["part"][0])) if len(table) else table

    with ThreadPoolExecutor(_THREADS) as threads:
        for table in threads.map(lambda number: read_plan(output.plan(number), read), range(segments)):
            for of_units in table["ranges"].chunks:
                ranges = of_units.flatten()
                yield from zip(*(ranges.field(name).to_pylist() for name in names), strict=True)
