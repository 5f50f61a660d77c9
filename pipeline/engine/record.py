"""Where the objects of an output are, and the two that are written before any work: the job's record and its plan."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.engine import crash
from pipeline.engine.plan import (
    FORMAT_VERSION,
    UNITS_PER_ROW_GROUP,
    Range,
    Segment,
    Unit,
    decode_segment,
    decode_units,
    encode_segment,
    segment_of,
    unit_id,
)
from pipeline.errors import UserError
from pipeline.recipe import differences
from pipeline.retry import retrying

_THREADS = 16


@dataclass(frozen=True)
class Output:
    """Names below one output prefix."""

    url: str

    def at(self, name: str) -> str:
        return storage.join(self.url, name)

    @property
    def job(self) -> str:
        return self.at("_transdomain/job.json")

    @property
    def success(self) -> str:
        return self.at("_SUCCESS")

    @property
    def manifest(self) -> str:
        return self.at("_transdomain/manifest.parquet")

    def plan(self, segment: int) -> str:
        return self.at(f"_transdomain/plan/{segment:06d}.parquet")

    def shard(self, unit: Unit) -> str:
        return self.at("/".join(filter(None, ("data", unit.part, f"{unit.id}.parquet"))))

    def verdict(self, unit: str) -> str:
        return self.at(f"_transdomain/verdicts/{unit}.parquet")

    def file(self, name: str) -> str:
        return self.at(f"data/{name}")

    def quarantine(self, unit: str) -> str:
        return self.at(f"_quarantine/{unit}.parquet")

    def commit(self, unit: str) -> str:
        return self.at(f"_transdomain/commits/{unit}.json")

    def retired(self, segment: int) -> str:
        return self.at(f"_transdomain/retired/{segment:06d}.json")

    def retired_segments(self) -> set[int]:
        """Numbers of the segments whose data was given up, from one listing."""
        entries = storage.list_files(self.at("_transdomain/retired"), ".json")
        return {int(e.name.removesuffix(".json")) for e in entries if not storage.is_leftover(e.name)}

    def committed(self) -> set[str]:
        """Units with a commit record, from one listing."""
        return {e.name.removesuffix(".json") for e in storage.list_files(self.at("_transdomain/commits"), ".json")}


def ensure_job(output: Output, kind: str) -> None:
    """Claim `output` for jobs of one kind. Raises UserError where another kind, or another format, has it."""
    storage.create(output.job, json.dumps(_job_record(kind), sort_keys=True, indent=1).encode())
    check_job(output, kind)


def check_job(output: Output, kind: str) -> None:
    """Raises UserError where another kind of job, or another format, has `output`. Writes nothing."""
    data = storage.read_if_there(output.job)
    found = json.loads(data) if data is not None else _job_record(kind)
    if found != _job_record(kind):
        raise UserError(
            f"{output.url} is the output of jobs.{found.get('job')} (format {found.get('format')}), not of jobs.{kind} "
            f"(format {FORMAT_VERSION}); give another output"
        )


def _job_record(kind: str) -> dict[str, Any]:
    return {"format": FORMAT_VERSION, "job": kind}


def load_segments(output: Output) -> list[Segment]:
    """Every plan segment, in order, from one listing and a footer each that this process has not read yet.

    Raises ValueError where one is missing.
    """
    entries = _plan_files(output)
    with ThreadPoolExecutor(_THREADS) as threads:
        segments = list(threads.map(lambda e: _segment(e.url, e.version), entries))
    if [s.number for s in segments] != list(range(len(segments))):
        raise ValueError(f"{output.url}: plan segments {[s.number for s in segments]} are not 0 to {len(segments) - 1}")
    return segments


def count_segments(output: Output) -> int:
    """How many plan segments there are, from one listing."""
    return len(_plan_files(output))


def load_units(output: Output, segment: int) -> list[Unit]:
    """All units of a segment."""
    return _read_plan(output.plan(segment), decode_units)


def unit_ids(segment: Segment) -> list[str]:
    """Names of a segment's units; they follow from their number."""
    return [unit_id(segment.number, i) for i in range(segment.units)]


def is_finished(segment: Segment, committed: Collection[str]) -> bool:
    """Whether each of a segment's units is among those with a commit."""
    return all(unit in committed for unit in unit_ids(segment))


def load_unit(output: Output, unit: str) -> Unit:
    """One unit, by a read of the part of its plan that holds it."""
    number = int(unit.split("-")[1])
    group = _unit_group(output.plan(segment_of(unit)), number // UNITS_PER_ROW_GROUP)
    return next(u for u in group if u.id == unit)


Cut = Callable[[Sequence[Range], int], Sequence[Unit]]
"""From ranges and the number of a segment to the units of that segment."""


def plan_new_inputs(
    output: Output, ranges: Sequence[Range], recipe: Mapping[str, Any], cut: Cut, label: str = ""
) -> list[Segment]:
    """The segments of `output`, after one more for those shards of `ranges` that are in none yet.

    Each segment is created exclusively; who loses the race for a number reads the winner's and plans again with what
    is left. Under a `label` there is one segment of that name, of what was fresh when it was created, however little
    that was. Raises UserError where the recipe recorded under this label, or without one in this output, is another.
    """
    while True:
        segments, units = next_segment(output, ranges, recipe, cut, label)
        if units is None:
            return segments
        if segments:
            storage.delete(output.success)
        number = len(segments)
        crash.point("before plan")
        storage.create(output.plan(number), encode_segment(units, number=number, recipe=recipe, label=label))
        crash.point("after plan")


def next_segment(
    output: Output, ranges: Sequence[Range], recipe: Mapping[str, Any], cut: Cut, label: str = ""
) -> tuple[list[Segment], Sequence[Unit] | None]:
    """The segments of `output`, and the units that the next one would have; None where no more is wanted."""
    segments = load_segments(output)
    if bound := [s for s in segments if s.label == label][-1:]:
        require_same_recipe(output, bound[0], recipe)
        if label:
            return segments, None
    known = _planned_shards(output, len(segments))
    fresh = [r for r in ranges if (r.source, r.shard) not in known]
    return segments, cut(fresh, len(segments)) if fresh or label else None


def require_same_recipe(output: Output, segment: Segment, wanted: Mapping[str, Any]) -> None:
    """Raises UserError with the difference where a segment was begun under another recipe."""
    changes = [f"{name}: {before} there, {now} now" for name, before, now in differences(segment.recipe, wanted)]
    if not changes:
        return
    what, how = output.url, "give another output"
    if segment.label:
        what, how = f"{output.url}: slot {segment.label}", "a slot keeps its own, so run it with those"
    raise UserError(f"{what} was begun with other settings ({'; '.join(changes)}); {how}")


def _plan_files(output: Output) -> list[storage.Entry]:
    entries = storage.list_files(output.at("_transdomain/plan"), ".parquet")
    return [entry for entry in entries if not storage.is_leftover(entry.name)]


def _planned_shards(output: Output, segments: int) -> set[tuple[str, str]]:
    """Source and name of every shard that is in a segment already."""
    known: set[tuple[str, str]] = set()
    columns = [f"ranges.list.element.{name}" for name in ("source", "shard")]

    def read(number: int) -> pa.Table:
        return _read_plan(
            output.plan(number), lambda file: pq.ParquetFile(file, page_checksum_verification=True).read(columns)
        )

    with ThreadPoolExecutor(_THREADS) as threads:
        for table in threads.map(read, range(segments)):
            for of_units in table["ranges"].chunks:
                ranges = of_units.flatten()
                known.update(zip(ranges.field("source").to_pylist(), ranges.field("shard").to_pylist(), strict=True))
    return known


@functools.lru_cache(maxsize=100_000)
def _segment(url: str, version: str) -> Segment:
    """`version` is what changes with the file, which nobody changes."""
    return _read_plan(url, lambda file: decode_segment(file, url))


@functools.lru_cache(maxsize=64)
def _unit_group(url: str, group: int) -> list[Unit]:
    return _read_plan(url, lambda file: decode_units(file, group))


def _read_plan(url: str, decode: Any) -> Any:
    def fetch() -> Any:
        with storage.open_read(url) as file:
            return decode(file)

    return retrying(fetch, url)
