"""Slots of a scheduled job: their names and the clock, how they stand, and giving up the data of old ones."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import storage
from pipeline.augment.config import Schedule
from pipeline.engine.completion import finish
from pipeline.engine.records.layout import Output, is_finished, load_segments, load_units
from pipeline.engine.records.units import Segment, part_of
from pipeline.errors import UserError
from pipeline.report.content import Table

_FORMS: dict[Schedule, str] = {"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}


def slot_at(schedule: Schedule, now: datetime.datetime) -> str:
    """The name of the slot that `now` (with a time zone) falls into. Names of one schedule sort as their times do."""
    return now.astimezone(datetime.UTC).strftime(_FORMS[schedule])


def choose_slot(wanted: str, schedule: Schedule, now: datetime.datetime) -> str:
    """`wanted`, or the slot of now. Raises UserError for a name of another form, and for a slot that has not begun."""
    current = slot_at(schedule, now)
    if not wanted:
        return current
    if _normal(wanted, schedule) != wanted:
        raise UserError(f"slot {wanted}: under the schedule {schedule} a slot is named like {current}")
    if wanted > current:
        raise UserError(f"slot {wanted} is in the future (it is {current} now, in UTC): run it when it has come")
    return wanted


def _normal(wanted: str, schedule: Schedule) -> str | None:
    """The name of the slot that `wanted` means, None where it means none."""
    form = _FORMS[schedule]
    try:
        # A week is no date without one of its days.
        return datetime.datetime.strptime(f"{wanted} 1", f"{form} %u").strftime(form)
    except ValueError:
        return None


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a slot stands."""

    slot: str
    inputs: int
    """Images that were new."""
    images: int
    """Images that were made of them, originals included."""
    quarantined: int
    units: int
    done: int
    """Units with a commit."""
    seconds: float
    """From the start of the first unit to the end of the last that is done."""
    retired: bool
    """Whether its data was given up."""

    @property
    def state(self) -> str:
        """In a word or two."""
        if self.done < self.units:
            return f"{self.done} of {self.units} units"
        return "data deleted" if self.retired else "complete"


def standings(output: Output, last: int) -> list[Standing]:
    """The `last` slots and all that are not finished, the oldest first. Reads their plans and commits only."""
    committed, retired = output.committed(), output.retired_segments()
    ordered = sorted(load_segments(output), key=lambda segment: _begins(segment.label))
    shown = {segment.number for segment in ordered[-last:]}
    segments = [s for s in ordered if s.number in shown or not is_finished(s, committed)]
    return [_standing(output, segment, committed, segment.number in retired) for segment in segments]


def _standing(output: Output, segment: Segment, committed: set[str], retired: bool) -> Standing:
    units = load_units(output, segment.number)
    commits = list(finish.read_commits(output, [segment], [unit.id for unit in units if unit.id in committed]))
    total = finish.totals(finish.manifest_table(commits))
    spans = [(commit["attempt"]["started"], commit["attempt"]["ended"]) for commit in commits]
    return Standing(
        slot=segment.label,
        inputs=sum(unit.rows for unit in units if unit.part == units[0].part),  # each part is of all of them
        images=total.ok,
        quarantined=total.quarantined,
        units=len(units),
        done=len(commits),
        seconds=max(end for _, end in spans) - min(start for start, _ in spans) if spans else 0.0,
        retired=retired,
    )


def standings_table(found: Sequence[Standing]) -> Table:
    """For people: a row a slot."""
    return Table(
        title="Slots",
        columns=["slot", "inputs", "images", "set aside", "took", "state"],
        rows=[
            [s.slot, f"{s.inputs:,}", f"{s.images:,}", f"{s.quarantined:,}", _duration(s.seconds), s.state]
            for s in found
        ],
    )


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))


def retire(output: Output, keep: int, own: str = "") -> list[str]:
    """Delete the data of all finished slots but the newest `keep`, and never that of `own`; returns their names.

    What is deleted is recorded first: killed on the way, the next call goes on. Plans, commits and the quarantine stay,
    so that nothing is augmented again and every input stays accounted for.
    """
    committed, retired = output.committed(), output.retired_segments()
    segments = [segment for segment in load_segments(output) if segment.label]
    standing = [s for s in segments if s.number not in retired and is_finished(s, committed)]
    standing.sort(key=lambda segment: _begins(segment.label))
    old = {s.number for s in standing[:-keep] if s.label != own} | retired
    shards: dict[str, list[str]] = {}
    for entry in storage.list_files(output.at("data")):
        shards.setdefault(entry.name.split("/")[0], []).append(entry.url)
    gone = []
    for segment in [segment for segment in segments if segment.number in old]:
        new, left = segment.number not in retired, shards.get(part_of(segment.label, ""), [])
        if new:
            record = json.dumps({"segment": segment.number, "slot": segment.label}).encode()
            storage.create(output.retired(segment.number), record)
        for url in left:
            storage.delete(url)
        if new or left:
            gone.append(segment.label)
    return gone


def _begins(slot: str) -> datetime.datetime:
    """When a slot begins, whichever schedule it is of."""
    for form in _FORMS.values():
        with contextlib.suppress(ValueError):
            return datetime.datetime.strptime(f"{slot} 1", f"{form} %u")
    raise ValueError(f"{slot} is not the name of a slot")
