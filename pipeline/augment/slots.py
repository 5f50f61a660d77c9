"""Slots of a scheduled job: their names, their state, and the deletion of old data."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow.compute as pc

from pipeline.augment.config import Schedule
from pipeline.engine.completion import finish
from pipeline.engine.completion.giving_up import delete_given_up, record_given_up
from pipeline.engine.records.card import publish_card
from pipeline.engine.records.layout import Output, is_finished, load_segments, unit_heads, unit_ids
from pipeline.engine.records.units import Segment
from pipeline.errors import UserError
from pipeline.report.content import Table
from pipeline.report.dataset.croissant import publish_croissant
from pipeline.stores import versions

_FORMS: dict[Schedule, str] = {"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}


def slot_at(schedule: Schedule, now: datetime.datetime) -> str:
    """Return the name of the slot that `now` (with a time zone) falls into.

    The names of one schedule sort in the order of time.
    """
    return now.astimezone(datetime.UTC).strftime(_FORMS[schedule])


def choose_slot(wanted: str, schedule: Schedule, now: datetime.datetime) -> str:
    """Return `wanted`, or the current slot. Raises UserError for a malformed name, or a slot that has not begun."""
    current = slot_at(schedule, now)
    if not wanted:
        return current
    if _normal(wanted, schedule) != wanted:
        raise UserError(f"slot {wanted}: under the schedule {schedule} a slot is named like {current}")
    if wanted > current:
        raise UserError(f"slot {wanted} is in the future (it is {current} now, in UTC): run it when it has come")
    return wanted


def _normal(wanted: str, schedule: Schedule) -> str | None:
    """Return the name of the slot that `wanted` means, None where it means none."""
    form = _FORMS[schedule]
    try:
        # A week is a date only together with one of its days.
        return datetime.datetime.strptime(f"{wanted} 1", f"{form} %u").strftime(form)
    except ValueError:
        return None


@dataclass(frozen=True, kw_only=True)
class SlotStatus:
    """State of a slot."""

    slot: str
    inputs: int
    """Number of new images."""
    images: int
    """Number of images made from them, originals included."""
    quarantined: int
    units: int
    done: int
    """Number of units with a commit."""
    seconds: float
    """Seconds from the start of the first finished unit to the end of the last."""
    retired: bool
    """True where its data was deleted."""
    version: int = 1
    """Version that is read; all numbers are of this one."""

    @property
    def state(self) -> str:
        """Return the state in a few words."""
        if self.done < self.units:
            return f"{self.done} of {self.units} units"
        made = "data deleted" if self.retired else "complete"
        return made if self.version == 1 else f"{made}, version {self.version}"


def standings(output: Output, last: int) -> list[SlotStatus]:
    """Return the `last` slots and all unfinished ones, oldest first. Reads only their plans and commits."""
    committed, newest = output.committed(), versions.current(versions.marked(output.url))
    ordered = sorted(load_segments(output), key=lambda segment: _begins(segment.label))
    shown = {segment.number for segment in ordered[-last:]}
    segments = [s for s in ordered if s.number in shown or not is_finished(s, committed)]
    return [_standing(output, segment, newest.get(segment.label, 1)) for segment in segments]


def _standing(first: Output, segment: Segment, version: int) -> SlotStatus:
    output = Output(versions.root_of(first.url, version))
    segment = next(each for each in load_segments(output) if each.label == segment.label)
    committed, retired = output.committed(), segment.number in output.retired_segments()
    units = unit_heads(output, segment.number)
    done = [unit for unit in unit_ids(segment) if unit in committed]
    manifest = finish.manifest_table(finish.read_commits(output, [segment], done))
    total = finish.totals(manifest, [segment])
    # Each part covers all inputs.
    inputs = pc.sum(units.filter(pc.equal(units["part"], units["part"][0]))["rows"]).as_py() if len(units) else 0
    return SlotStatus(
        slot=segment.label,
        inputs=inputs,
        images=total.ok,
        quarantined=total.quarantined,
        units=len(units),
        done=total.units,
        seconds=pc.max(manifest["ended"]).as_py() - pc.min(manifest["started"]).as_py() if total.units else 0.0,
        retired=retired,
        version=version,
    )


def standings_table(found: Sequence[SlotStatus]) -> Table:
    """Return a table for people: one row per slot."""
    return Table(
        title="Slots",
        columns=["slot", "inputs", "images", "quarantined", "took", "state"],
        rows=[
            [s.slot, f"{s.inputs:,}", f"{s.images:,}", f"{s.quarantined:,}", _duration(s.seconds), s.state]
            for s in found
        ],
    )


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))


def retire(output: Output, keep: int, own: str = "") -> list[str]:
    """Delete the data of all finished slots but the newest `keep`, and never that of `own`; return their names.

    The deletion is recorded first: after a kill, the next call goes on with it. Plans, commits and the quarantine stay,
    so that nothing is augmented again and every input stays accounted for.
    """
    begun, newest = versions.begun(output.url), versions.current(versions.marked(output.url))
    outputs = {1: output} | {each.number: Output(versions.root_of(output.url, each.number)) for each in begun}
    given_up = {number: _given_up_labels(each) for number, each in outputs.items()}
    committed = output.committed()
    segments = [segment for segment in load_segments(output) if segment.label]
    segments.sort(key=lambda segment: _begins(segment.label))
    # An old version may be given up without its slot.
    gone = {s.label for s in segments if s.label in given_up[newest.get(s.label, 1)]}
    standing = [s.label for s in segments if s.label not in gone and is_finished(s, committed)]
    old = {label for label in standing[:-keep] if label != own} | gone
    named = set[str]()
    for each in outputs.values():
        new = record_given_up(each, [segment for segment in load_segments(each) if segment.label in old])
        named |= {segment.label for segment in new}
    if begun:
        publish_card(output)  # without what is about to go
    for each in outputs.values():
        labels = {segment.number: segment.label for segment in load_segments(each)}
        named |= {labels[number] for number in delete_given_up(each)} & old
    if begun:
        publish_card(output)  # old versions may be gone, too
    for each in outputs.values() if named else ():
        publish_croissant(each)
    return [segment.label for segment in segments if segment.label in named]


def _given_up_labels(output: Output) -> set[str]:
    retired = output.retired_segments()
    return {segment.label for segment in load_segments(output) if segment.number in retired} if retired else set()


def _begins(slot: str) -> datetime.datetime:
    """Return when a slot begins, whatever its schedule."""
    for form in _FORMS.values():
        with contextlib.suppress(ValueError):
            return datetime.datetime.strptime(f"{slot} 1", f"{form} %u")
    raise ValueError(f"{slot} is not the name of a slot")
