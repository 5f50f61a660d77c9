"""Planning of a corpus as units of work: plain data in, plain data out.

A *unit* is a few consecutive ranges of rows, bounded in rows and bytes, and becomes one shard of the output. A
*segment* is the immutable list of the units that were planned at once.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.engine.records.limits import Limits
from pipeline.storage import PassedOver
from pipeline.stores.mark import FORMAT_VERSION
from pipeline.stores.tables.ranges import Range, Ranges
from pipeline.stores.tables.row_schema import RowSchema

UNITS_PER_ROW_GROUP = 64
RANGES_PER_ROW_GROUP = 16_384
_WINDOW = 250_000
"""Ranges that are packed into units at a time."""
_FOOTER_KEY = b"transdomain"
_ROW_SCHEMA = "reading"
"""Field of a source with its RowSchema, by the name that plans have had for it since their first format."""


class Unit(NamedTuple):
    """One unit of work. Its id is SEGMENT-NUMBER, only digits and a hyphen: readers take words in names for splits."""

    id: str
    ranges: tuple[Range, ...]
    part: str = ""
    """Folders below data/ that hold its shard, such as slot=…/translator=…; empty for most jobs."""

    @property
    def rows(self) -> int:
        return sum(r.rows for r in self.ranges)


@dataclass(frozen=True, kw_only=True)
class PlannedSource:
    """Store as it was listed when a segment was planned."""

    url: str
    passed_over: tuple[PassedOver, ...] = ()
    """Things below the URL that are no input."""
    row_schema: RowSchema | None = None
    """How its rows come; None where they come as their shards have them."""

    def record(self) -> dict[str, Any]:
        """Return it as plain data, for JSON; older plans have no schema, and those without one look like them."""
        found = {"url": self.url, "passed_over": [asdict(each) for each in self.passed_over]}
        return found | ({_ROW_SCHEMA: self.row_schema.record()} if self.row_schema else {})


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One plan file: its units, and the recipe by which all of them are made."""

    number: int
    job: str
    """Kind of job that owns the output."""
    recipe: Mapping[str, Any]
    """All settings that change a byte of the output."""
    units: int
    rows: int
    sources: Mapping[str, PlannedSource]
    """Sources by the name that ranges give their store; one without a name where a job reads one store."""
    label: str = ""
    """Name of a slot; empty where the segments of an output have no names."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Figures by which a part of the recipe was chosen."""
    expected: Mapping[str, Any] = field(default_factory=dict)
    """What its units were expected to take; empty where nobody asked."""
    again: bool = False
    """True where its inputs are those of earlier segments that were quarantined, once more: each counts once."""


def unit_id(segment: int, number: int) -> str:
    """Return the name of a unit, which all of its objects share."""
    return f"{segment:06d}-{number:06d}"


def part_of(label: str, part: str) -> str:
    """Return the folder below data/ for the shards of a part; the part's own folder is inside that of its slot."""
    return "/".join(filter(None, (f"slot={label}" if label else "", part)))


def part_of_translator(name: str) -> str:
    """Return the part with the translations by one of several translators."""
    return f"translator={name}"


def passed_over(segments: Iterable[Segment]) -> list[str]:
    """Return a line for each kind of thing that was below a source and is no input.

    Each source is taken as it was last listed.
    """
    latest = {source.url: source for segment in segments for source in segment.sources.values()}
    return [each.below(source.url) for source in latest.values() for each in source.passed_over]


def settled_row_schema(segments: Sequence[Segment], source: str) -> RowSchema | None:
    """Return how the rows of a source have come since a segment said so; None while they come as their shards have
    them."""
    known = (segment.sources[source].row_schema for segment in reversed(segments) if source in segment.sources)
    return next((each for each in known if each), None)


def segment_of(unit: str) -> int:
    """Return the number of the segment that `unit` belongs to."""
    return int(unit.split("-")[0])


@dataclass(frozen=True, eq=False)
class Units(Sequence[Unit]):
    """Consecutive units of one part and one source, in columns; a `Unit` is made when it is looked at."""

    ranges: Ranges
    """Ranges of all these units, in order."""
    edges: np.ndarray
    """Offsets of the units in the ranges, [units + 1] int64."""
    segment: int = 0
    first: int = 0
    """Number of the first of them in its segment."""
    part: str = ""

    def __len__(self) -> int:
        return len(self.edges) - 1

    @overload
    def __getitem__(self, index: int) -> Unit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Unit]: ...
    def __getitem__(self, index: int | slice) -> Unit | Sequence[Unit]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        at = range(len(self))[index]
        ranges = self.ranges[int(self.edges[at]) : int(self.edges[at + 1])]
        return Unit(unit_id(self.segment, self.first + at), tuple(ranges), self.part)

    @property
    def rows(self) -> int:
        """Return the number of rows of all units."""
        return self.ranges.rows


def plan_units(ranges: Ranges, limits: Limits, segment: int = 0, *, first: int = 0, part: str = "") -> Units:
    """Pack `ranges`, in their order, into units of `part`, numbered from `first`; cut ranges that are too large.

    Every row of every range is in exactly one unit, order is kept, and no unit of two or more rows exceeds `limits`
    (provided that sizes are even within a range).
    """
    max_rows, max_bytes = limits.most_rows, max(1, int(limits.size_mb * 1e6))
    made, counts, rest = list[Ranges](), list[np.ndarray](), ranges[:0]
    as_they_are = ranges.is_cut(max_rows, max_bytes)  # millions of files need no second copy
    for start in range(0, len(ranges), _WINDOW):
        pieces = rest.followed_by([ranges[start : start + _WINDOW].cut(max_rows, max_bytes)])
        begins = _unit_begins(pieces, max_rows, max_bytes)
        # The last unit may go on in the next window.
        whole = int(begins[-1]) if len(begins) and start + _WINDOW < len(ranges) else len(pieces)
        pieces, rest, begins = pieces[:whole], pieces[whole:], begins[begins < whole]
        merged, at = pieces.joined(begins)
        if not as_they_are:
            made.append(merged)
        counts.append(np.diff(np.searchsorted(at, begins), append=len(at)))
    edges = np.concatenate([[0], np.cumsum(np.concatenate(counts))]) if counts else np.zeros(1)
    cut = ranges if as_they_are else ranges[:0].followed_by(made)
    return Units(cut, edges.astype(np.int64), segment, first, part)


def _unit_begins(pieces: Ranges, max_rows: int, max_bytes: int) -> np.ndarray:
    """Return the positions where a unit begins: each takes as many pieces as fit, and one at least."""
    following = np.full(len(pieces), len(pieces))
    for each, most in ((pieces.each_rows, max_rows), (pieces.size, max_bytes)):
        edges = np.concatenate([[0], np.cumsum(each)])
        following = np.minimum(following, np.searchsorted(edges, edges[:-1] + most, "right") - 1)
    following = np.maximum(following, np.arange(len(pieces)) + 1).tolist()
    begins, at = list[int](), 0
    while at < len(pieces):
        begins.append(at)
        at = following[at]
    return np.array(begins, np.int64)


# --- a segment as a file ------------------------------------------------------------------------------------------

PLAN_SCHEMA = pa.schema(
    [
        ("unit", pa.string()),
        ("part", pa.string()),
        ("rows", pa.int64()),
        (
            "ranges",
            pa.list_(
                pa.struct(
                    [
                        ("shard", pa.string()),
                        ("url", pa.string()),
                        ("version", pa.string()),
                        ("start", pa.int64()),
                        ("stop", pa.int64()),
                        ("size", pa.int64()),
                        ("source", pa.string()),
                    ]
                )
            ),
        ),
    ]
)


def encode_segment(
    units: Sequence[Units],
    *,
    number: int,
    job: str,
    recipe: Mapping[str, Any],
    sources: Mapping[str, PlannedSource],
    measured: Mapping[str, Any] = MappingProxyType({}),
    label: str = "",
    expected: Mapping[str, Any] = MappingProxyType({}),
    again: bool = False,
) -> bytes:
    """Encode a segment as a Parquet file: one row per unit; recipe, sources and counts in the footer.

    A row group has at most UNITS_PER_ROW_GROUP units, and about RANGES_PER_ROW_GROUP ranges: who reads one unit reads
    little more than it.
    """
    head = {
        "format": FORMAT_VERSION,
        "number": number,
        "job": job,
        "label": label,
        "sources": {name: source.record() for name, source in sources.items()},
        "units": sum(map(len, units)),
        "rows": sum(each.rows for each in units),
        "recipe": recipe,
        "measured": dict(measured),
    }
    head |= {"expected": dict(expected)} if expected else {}
    head |= {"again": True} if again else {}
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, PLAN_SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        for each in units:
            for start, stop in _row_groups(each.edges):
                writer.write_table(_encoded(each, start, stop), row_group_size=UNITS_PER_ROW_GROUP)
        writer.add_key_value_metadata({_FOOTER_KEY: json.dumps(head, sort_keys=True)})
    return buffer.getvalue()


def _row_groups(edges: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the units of each row group, from and to before."""
    start, count = 0, len(edges) - 1
    while start < count:
        full = int(np.searchsorted(edges, edges[start] + RANGES_PER_ROW_GROUP, "right")) - 1
        stop = min(max(full, start + 1), start + UNITS_PER_ROW_GROUP, count)
        yield start, stop
        start = stop


def _encoded(units: Units, start: int, stop: int) -> pa.Table:
    """Return units `start` to before `stop` as rows of a plan."""
    edges = units.edges[start : stop + 1]
    ranges = units.ranges[int(edges[0]) : int(edges[-1])]
    shards = ranges.shards.take(ranges.shard)
    columns = {
        "shard": shards.names,
        "url": shards.urls,
        "version": shards.versions,
        "start": ranges.start,
        "stop": ranges.stop,
        "size": ranges.size,
        "source": pa.repeat(ranges.source, len(ranges)),
    }
    kinds = list(PLAN_SCHEMA.field("ranges").type.value_type)
    arrays = [pa.array(columns[kind.name]).cast(kind.type) for kind in kinds]
    offsets = pa.array(edges - edges[0], pa.int32())
    rows = np.add.reduceat(ranges.each_rows, edges[:-1] - edges[0])
    names = [unit_id(units.segment, units.first + i) for i in range(start, stop)]
    of_units = pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(arrays, fields=kinds))
    return pa.table([names, [units.part] * len(names), rows, of_units], schema=PLAN_SCHEMA)


def decode_segment(file: Any, source: str) -> Segment:
    """Read a segment from its footer. Raises ValueError for a format that this version does not know."""
    metadata = pq.read_metadata(file).metadata or {}
    if _FOOTER_KEY not in metadata:
        raise ValueError(f"{source} is not a plan")
    head = json.loads(metadata[_FOOTER_KEY])
    if head["format"] != FORMAT_VERSION:
        raise ValueError(f"{source} has format {head['format']}; this version reads format {FORMAT_VERSION}")
    return Segment(
        number=head["number"],
        job=head["job"],
        recipe=head["recipe"],
        units=head["units"],
        rows=head["rows"],
        sources={name: _source(fields) for name, fields in head["sources"].items()},
        label=head["label"],
        measured=head.get("measured", {}),  # older plans have none
        expected=head.get("expected", {}),
        again=head.get("again", False),
    )


def _source(fields: Mapping[str, Any]) -> PlannedSource:
    passed_over = tuple(PassedOver(**each) for each in fields["passed_over"])
    row_schema = RowSchema.of_record(fields.get(_ROW_SCHEMA))
    return PlannedSource(url=fields["url"], passed_over=passed_over, row_schema=row_schema)


def with_head(table: pa.Table, footer: pq.FileMetaData) -> pa.Table:
    """Return rows of a plan with the head of its footer, by which `decode_units` knows how their rows come."""
    return table.replace_schema_metadata({_FOOTER_KEY: (footer.metadata or {}).get(_FOOTER_KEY, b"{}")})


def decode_units(table: pa.Table) -> list[Unit]:
    """Return the units that these rows of a plan are."""
    row_schemas = _row_schemas((table.schema.metadata or {}).get(_FOOTER_KEY, b"{}"))
    return [
        Unit(
            row["unit"], tuple(Range(**r, row_schema=row_schemas.get(r["source"])) for r in row["ranges"]), row["part"]
        )
        for row in table.to_pylist()
    ]


@functools.lru_cache(maxsize=4)
def _row_schemas(head: bytes) -> Mapping[str, RowSchema | None]:
    sources = json.loads(head).get("sources", {})
    return {name: RowSchema.of_record(fields.get(_ROW_SCHEMA)) for name, fields in sources.items()}
