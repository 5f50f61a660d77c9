"""Planning of a run: the inputs that are in no segment yet, under the recipe and from the sources of the output.

A segment is created exclusively and never changed. So everything that could be wrong with it is checked first: another
input under the same output, inputs that have changed, keys that occur twice.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import failpoints, storage
from pipeline.engine import again
from pipeline.engine.comparison import Found, compare
from pipeline.engine.records.layout import Output, count_segments, is_finished, load_segments, plan_tables
from pipeline.engine.records.units import PlannedSource, Segment, Units, encode_segment, segment_of, settled_row_schema
from pipeline.errors import UserError
from pipeline.recipe import Change, differences
from pipeline.stores.forms.registry import form_named
from pipeline.stores.tables.merging import DifferError, Merged
from pipeline.stores.tables.ranges import Ranges
from pipeline.stores.tables.row_schema import RowSchema
from pipeline.stores.tables.schema import Store, empty_shards

log = logging.getLogger("transdomain")

_UNIT = re.compile(r"\d{6}-\d{6}")
_VERSIONS = "versions."
"""Prefix of the names of those settings that are versions of libraries."""

Cut = Callable[[Sequence[Ranges], int], Sequence[Units]]
"""Function from the ranges of each source and the number of a segment to the units of that segment."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Inputs and recipe that a run wants to plan."""

    job: str
    """Kind of the job."""
    sources: Mapping[str, Store]
    """Stores by the name that their ranges have; without a name where there is one store."""
    recipe: Mapping[str, Any]
    measured: Mapping[str, Any]
    """Figures by which a part of the recipe was chosen."""
    cut: Cut
    label: str = ""
    """Label of the one segment that the run is about; without one it is about all segments."""
    moved: bool = False
    """True where the user says that the sources are the recorded ones, at another place."""
    expect: Callable[[Sequence[Units]], Mapping[str, Any]] = lambda units: {}
    """Function that returns what new units are expected to take, for the record."""
    again: bool = False
    """True where the next segment is of quarantined inputs, once more, and not of new ones."""


class OtherRecipeError(UserError):
    """Output, or slot, that was begun with another recipe."""


class Planned(NamedTuple):
    """Plan of an output, as a run finds or leaves it."""

    segments: list[Segment]
    changed: Sequence[storage.Entries] = ()
    """Inputs that have changed since they were planned, by source; sources without any are left out."""
    gone: Sequence[str] = ()
    """Names of some inputs that were planned and are gone."""
    sources: Mapping[str, PlannedSource] = MappingProxyType({})
    """Sources as the next segment records them."""


def plan_new_inputs(
    output: Output, wanted: Request, found: tuple[Planned, Sequence[Units] | None] | None = None
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
        planned, units = found or next_segment(output, wanted, says=not created)
        found = None
        segments = planned.segments
        if units is None:
            return planned
        if created:
            raise RuntimeError(f"{output.plan(len(segments) - 1)} was planned, and its inputs still count as new")
        if segments:
            storage.delete(output.success)
        number, expected = len(segments), wanted.expect(units)
        failpoints.point("before plan")
        data = encode_segment(
            units,
            number=number,
            job=wanted.job,
            recipe=wanted.recipe,
            measured=wanted.measured,
            sources=planned.sources,
            label=wanted.label,
            expected=expected,
            again=wanted.again,
        )
        created = storage.create(output.plan(number), data)
        failpoints.point("after plan")


def next_segment(output: Output, wanted: Request, *, says: bool = True) -> tuple[Planned, Sequence[Units] | None]:
    """Return the plan of `output`, and the units of the next segment; None where no segment is to be added.

    Shards that are in a segment already are not read: they are compared by their listing. What is passed over among
    those that are read is logged where it `says` so.
    """
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
        return Planned(segments), None
    shards = {name: store.shards for name, store in wanted.sources.items()}
    whole = all(form_named(store.form).names_are_keys for store in wanted.sources.values())
    found, gone = compare(
        shards,
        _planned_ranges(output, [segment.number for segment in segments if not segment.again]),
        _planned_ranges(output, [segment.number for segment in segments if segment.again and whole]),
    )
    if has_moved and gone:
        raise UserError(
            f"{output.url}: not the same store at another place: {len(gone)} inputs that were planned, such as "
            f"{gone[0]}, are not there; give the right place, or another output"
        )
    changed = {name: _changed(store, found[name]) for name, store in wanted.sources.items()}
    if wanted.label:
        _require_alike_elsewhere(output, segments, wanted, changed)
    if wanted.again:
        _require_no_traces(output, len(segments))
        units = _cut_again(output, segments, wanted)
        said = {name: PlannedSource(url=s.url, passed_over=tuple(s.passed_over)) for name, s in wanted.sources.items()}
        return Planned(segments, [each for each in changed.values() if len(each)], gone, said), units
    fresh = {
        name: _as_before(output, segments, name, store, found[name], bool(wanted.label))
        for name, store in wanted.sources.items()
    }
    recorded = {name: _recorded(store, found[name].fresh, fresh[name], says) for name, store in wanted.sources.items()}
    planned = Planned(segments, [each for each in changed.values() if len(each)], gone, recorded)
    if not any(map(len, fresh.values())) and not wanted.label:
        return planned, None
    _require_no_traces(output, len(segments))
    units = [each for each in wanted.cut([each for each in fresh.values() if len(each)], len(segments)) if len(each)]
    # An empty segment would be followed by another empty one, without end.
    return planned, units if units or wanted.label else None


def _cut_again(output: Output, segments: Sequence[Segment], wanted: Request) -> Sequence[Units] | None:
    """Return units of the inputs that are quarantined and are worth another try; None where there are none.

    Inputs of several sources would need to be told apart.
    """
    if not segments:
        raise UserError(f"{output.url}: nothing was quarantined yet; run the job without --from_quarantine first")
    if len(wanted.sources) > 1:
        raise UserError(
            f"{output.url}: is made of several sources, and the quarantine of a single one can be run again"
        )
    ranges = again.quarantined_inputs(output, segments, next(iter(wanted.sources.values())), wanted.recipe)
    return [each for each in wanted.cut([ranges], len(segments)) if len(each)] if len(ranges) else None


def _changed(store: Store, found: Found) -> storage.Entries:
    """Return the shards that have changed; those at another place are compared by the encoded bytes of their rows."""
    sizes = store.ranges_of(found.elsewhere).sizes_of(found.elsewhere)
    return store.shards.take(np.union1d(found.changed, found.elsewhere[sizes != found.planned_sizes]))


def _recorded(store: Store, read: np.ndarray, fresh: Ranges, says: bool) -> PlannedSource:
    """Return a source as a segment records it that was planned from `fresh`, the ranges of the shards just read."""
    found = (*store.looked_over(), *empty_shards(store.shards, read, fresh))
    for each in found if says else ():
        log.warning("%s", each.below(store.url))
    return PlannedSource(url=store.url, passed_over=(*store.passed_over, *found), row_schema=fresh.row_schema)


def _as_before(
    output: Output, segments: Sequence[Segment], name: str, store: Store, found: Found, is_slot: bool
) -> Ranges:
    """Return new ranges of a source, whose rows come in the schema that those before them came in.

    Raises UserError where their columns do not fit into it: an output has one schema. A slot may carry fewer columns.
    """
    fresh, settled = store.ranges_of(found.fresh), settled_row_schema(segments, name)
    if not len(fresh) or not any(name in segment.sources for segment in segments):
        return fresh
    before = settled.schema if settled else _schema_before(store, found.fresh, fresh)
    now = fresh.row_schema.schema if fresh.row_schema else store.schema
    if is_slot:
        before = pa.schema([field for field in before if field.name in now.names], before.metadata)
    if fresh.row_schema == settled and now == before:
        return fresh
    merged = Merged(before, output.url)
    try:
        merged.add(now, store.url)
        how = "; ".join(f"{f.name}: {f.type}" for f in merged.schema if f.type != before.field(f.name).type)
    except DifferError as error:
        how = str(error)
    if how:
        raise UserError(
            f"{store.url}: its new shards have other columns than those that {output.url} was planned of ({how}); "
            "write them like those, or give another output"
        )
    now_read = fresh.row_schema or RowSchema(merged.schema)
    return replace(fresh, row_schema=replace(now_read, schema=merged.schema))


def _schema_before(store: Store, which: np.ndarray, fresh: Ranges) -> pa.Schema:
    """Return the columns of the shards that were planned before the `fresh` ones, whose numbers are `which`.

    They are the store's own, which are those of its first shard, unless that is a fresh one, too: then another footer
    is read.
    """
    planned = np.setdiff1d(np.arange(len(store.shards)), which, assume_unique=True)
    is_described = fresh.row_schema is not None and fresh.row_schema.basis  # by something that was not there before
    if not is_described and (not len(planned) or planned[0] < fresh.shards_with_rows[0]):
        return store.schema
    return form_named(store.form).open(store.url, store.shards.take(planned[:1])).schema


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
        how += f", or make it anew with --redo {segment.label}"
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
    output: Output, segments: Sequence[Segment], wanted: Request, changed: Mapping[str, storage.Entries]
) -> None:
    """Raise UserError where a named source has moved and files of known names have changed there.

    The name decides whether an input is new, so those files would be left out.
    """
    before = {name: source.url for segment in segments for name, source in segment.sources.items()}
    for name, source in wanted.sources.items():
        if len(there := changed[name]) and before.get(name, source.url) != source.url:
            raise UserError(
                f"{output.url}: source {name} was at {before[name]} and is at {source.url} now, where {len(there)} "
                f"files of known names are others, such as {there[0].url}; they would be left out: give them new "
                "names, or the source another name"
            )


def _planned_ranges(output: Output, segments: Sequence[int]) -> Iterator[pa.Table]:
    """Yield source, shard, url, version and size of every range of the plan, some at a time, segment by segment.

    Every part of a segment covers all its inputs, so the ranges of one part are enough.
    """
    names = ["source", "shard", "url", "version", "size"]
    columns = ["part", *(f"ranges.list.element.{name}" for name in names)]
    first = dict[str, str]()
    for url, table in plan_tables(map(output.plan, segments), columns):
        part = first.setdefault(url, table["part"][0].as_py())
        for of_units in table.filter(pc.equal(table["part"], part))["ranges"].chunks:
            ranges = of_units.flatten()
            yield pa.table([ranges.field(name) for name in names], names)
