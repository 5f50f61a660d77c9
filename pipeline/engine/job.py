"""One output of a run, as plain data: its sources, what makes it, and how it is cut."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.engine.completion import finish
from pipeline.engine.publishing.steps import Work
from pipeline.engine.records.layout import Output
from pipeline.engine.records.units import Limits, Segment, Source, Unit, part_of, plan_units
from pipeline.engine.segments import Request
from pipeline.stores import Store
from pipeline.stores.ranges import Range


@dataclass(frozen=True, kw_only=True)
class Job:
    """One output of a run: its source, what makes it, and what is written beside the data at the end."""

    kind: str
    output: Output
    sources: Mapping[str, Store]
    """By the name that their ranges have; without a name where there is one store."""
    recipe: Mapping[str, Any]
    limits: Limits
    works: Sequence[Work]
    """One for each part of the output; all have the same stages, by name and by what they take."""
    label: str = ""
    """Of the segment that this run is about; without one it is about all of them."""
    moved: bool = False
    """Whether the user says that the sources are those of the record at another place."""
    set_aside_changed: bool = False
    """Whether inputs that are no longer what was planned are set aside; else they fail their units, and the run."""
    cards: Callable[[Sequence[Segment], pa.Table | None], finish.Derived]
    """Report and cards by name, from the segments and the manifest (None at the start, when there is none yet)."""

    @property
    def request(self) -> Request:
        """What is to be planned for it."""
        return Request(
            job=self.kind,
            ranges=[piece for source in self.sources.values() for piece in source.ranges],
            sources={
                name: Source(url=store.url, passed_over=tuple(store.passed_over))
                for name, store in self.sources.items()
            },
            recipe=self.recipe,
            cut=self.cut,
            label=self.label,
            moved=self.moved,
        )

    def inputs(self, rows: int) -> int:
        """How many inputs so many planned rows are: each is planned once for every part."""
        return rows // len(self.works)

    def cut(self, fresh: Sequence[Range], number: int) -> list[Unit]:
        """The units of segment `number`: of one part and one source each, so that a unit's keys are unique."""
        units = list[Unit]()
        for work in self.works:
            limits, part = self.limits.widened(work.share), part_of(self.label, work.part)
            for _, ranges in itertools.groupby(fresh, key=lambda piece: piece.source):
                units += plan_units(ranges, limits, number, first=len(units), part=part)
        return units
