"""One output of a run, as plain data: its sources, its recipe and stages, and how it is cut into units."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.engine.completion import finish
from pipeline.engine.estimate.drawing import Pile, pile_of
from pipeline.engine.estimate.forecast import Costing, Forecast, Stores, forecast
from pipeline.engine.estimate.outcome import Count
from pipeline.engine.publishing.steps import Workload
from pipeline.engine.records.layout import Output
from pipeline.engine.records.limits import Limits
from pipeline.engine.records.units import Segment, Units, part_of, plan_units
from pipeline.engine.segments import Request
from pipeline.stores import Store
from pipeline.stores.forms.registry import form_named
from pipeline.stores.tables.ranges import Ranges


@dataclass(frozen=True, kw_only=True)
class Job:
    """One output of a run: its sources, its stages, and the files that are written next to the data at the end."""

    kind: str
    output: Output
    sources: Mapping[str, Store]
    """Stores by the name that their ranges have; without a name where there is one store."""
    recipe: Mapping[str, Any]
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Figures by which a part of the recipe was chosen, for the record; no part of the recipe themselves."""
    limits: Callable[[int], Limits]
    """Function from a number of rows that are to be planned to the bounds of their units."""
    cut_by_rate: bool = False
    """True where units will be smaller than `limits`, by a rate that a dry run does not measure."""
    workloads: Sequence[Workload]
    """One for each part of the output, or a single one for all of them; all have the same stages, with the same names
    and resources."""
    label: str = ""
    """Label of the segment that this run is about; without one it is about all segments."""
    moved: bool = False
    """True where the user says that the sources are the recorded ones, at another place."""
    set_aside_changed: bool = False
    """True where inputs that changed after planning are quarantined; else they fail their units, and the run."""
    names_rows: bool = False
    """True where an input may become several rows, whose keys are its own with an addition."""
    keys_are_known: bool = False
    """True where the inputs are those of an output whose keys were compared when it was made."""
    skipped_are_judged: bool = False
    """True where rows are skipped after they were read, for their scores: they count in the error budget as good."""
    cards: Callable[[Sequence[Segment], pa.Table | None, Count | None], finish.Derived]
    """Function that returns report and cards by name, from the segments, the manifest, and what counts the run's use
    (both None before the run)."""
    again_option: str = ""
    """Command-line option that runs quarantined inputs again, for advice."""
    again: bool = False
    """True where the inputs are those that are quarantined, once more, and new ones are left for another run."""
    costing: Costing | None = None
    """What it knows of the cost of its units; None where no run is forecast."""

    def __post_init__(self) -> None:
        if len(self.workloads) > 1 and any(len(work.parts) > 1 for work in self.workloads):
            raise ValueError("a work that makes several parts must be the only one of its job")

    @property
    def request(self) -> Request:
        """Return what to plan for this job."""
        return Request(
            job=self.kind,
            sources=self.sources,
            recipe=self.recipe,
            measured=self.measured,
            cut=self.cut,
            label=self.label,
            moved=self.moved,
            expect=self.expect,
            again=self.again,
        )

    def forecast(self, piles: Sequence[Pile], *, looks: bool) -> Forecast:
        """Return what the units of these piles will take; see `estimate.forecast`. It needs a costing."""
        assert self.costing is not None
        stores = Stores(list(self.sources.values()), self.output.url, not self.has_unique_keys)
        return forecast(self.costing, self.workloads, piles, stores, looks=looks)

    def expect(self, units: Sequence[Units]) -> Mapping[str, Any]:
        """Return what new units are expected to take, as a plan records it; empty without a costing."""
        if self.costing is None or not units:
            return {}
        piles = [pile_of(each, endings=False) for each in units]
        return self.forecast(piles, looks=False).expected.amounts.record()

    @property
    def has_unique_keys(self) -> bool:
        """Return True where no two rows of a segment can have the same key: those of one source, named by their place
        in it.
        """
        stores = list(self.sources.values())
        return not self.names_rows and len(stores) == 1 and form_named(stores[0].form).has_unique_keys(stores[0])

    def inputs(self, rows: int) -> int:
        """Return how many inputs so many planned rows are: each is planned once for every part."""
        return rows // sum(len(work.parts) for work in self.workloads)

    def cut(self, fresh: Sequence[Ranges], number: int) -> list[Units]:
        """Cut the ranges of each source into the units of segment `number`: one part and one source each, so that a
        unit's keys are unique."""
        units, limits = list[Units](), self.limits(sum(ranges.rows for ranges in fresh))
        for work in self.workloads:
            for part, ranges in itertools.product(work.parts, fresh):
                first, folder = sum(map(len, units)), part_of(self.label, part)
                units.append(plan_units(ranges, limits.widened(work.share), number, first=first, part=folder))
        return units
