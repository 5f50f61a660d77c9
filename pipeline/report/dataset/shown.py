"""What readers of an output are to see of it: the current version of each slot, or of the whole, from its manifests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.engine.completion import finish
from pipeline.engine.records.layout import Output, load_segments
from pipeline.engine.records.units import Segment
from pipeline.errors import DamagedError
from pipeline.stores import versions

_ROWS = 4096


class Root(NamedTuple):
    """One version of an output, and what of it is read."""

    number: int
    """Number of the version; 1 is the output itself."""
    output: Output
    segments: Sequence[Segment]
    """Segments that are read."""
    units: pa.Table
    """Their rows of the manifest, without units whose data was deleted."""

    @property
    def prefix(self) -> str:
        """Folder of the version below the output, with a slash at its end; empty for the first."""
        return f"{versions.FOLDER}{self.number:06d}/" if self.number > 1 else ""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the manifest; a few are Python objects at a time."""
        yield from (row for batch in self.units.to_batches(_ROWS) for row in batch.to_pylist())


def shown_roots(output: Output, segments: Sequence[Segment], manifest: pa.Table) -> list[Root]:
    """Return the versions of an output of which readers see anything, with what they see.

    `segments` and `manifest` are those of the output itself. Raises DamagedError where the manifest of a later version
    cannot be read.
    """
    newest = versions.current(versions.marked(output.url))
    found = []
    for number in [1, *sorted(set(newest.values()))]:
        place = Output(versions.root_of(output.url, number))
        all_of_it = segments if number == 1 else load_segments(place)
        shown = [segment for segment in all_of_it if newest.get(segment.label, 1) == number]
        units = _units_of(shown, manifest if number == 1 else read_manifest(place))
        if shown:
            found.append(Root(number, place, shown, finish.with_data(place, units)))
    return found


def read_manifest(output: Output) -> pa.Table:
    """Read the manifest of an output. Raises DamagedError where there is none, or a damaged one."""
    data = storage.read_if_there(output.manifest)
    manifest = finish.read_manifest(data) if data is not None else None
    if manifest is None:
        raise DamagedError(f"{output.manifest} is missing or damaged; run the job again, which writes it")
    return manifest


def _units_of(segments: Sequence[Segment], manifest: pa.Table) -> pa.Table:
    numbers = pa.array([f"{segment.number:06d}" for segment in segments], pa.string())
    return manifest.filter(pc.is_in(pc.list_element(pc.split_pattern(manifest["unit"], "-"), 0), numbers))
