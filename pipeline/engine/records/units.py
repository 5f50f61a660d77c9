"""Planning of a corpus as units of work: plain data in, plain data out.

A *unit* is a few consecutive ranges of rows, bounded in rows and bytes, and becomes one shard of the output. A
*segment* is the immutable list of the units that were planned at once.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.engine.records.limits import Limits
from pipeline.storage import PassedOver
from pipeline.stores.mark import FORMAT_VERSION
from pipeline.stores.tables.ranges import Range, append_range, cut_range

UNITS_PER_ROW_GROUP = 64
_FOOTER_KEY = b"transdomain"


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


def unit_id(segment: int, number: int) -> str:
    """Return the name of a unit, which all of its objects share."""
    return f"{segment:06d}-{number:06d}"


def part_of(label: str, part: str) -> str:
    """Return the folder below data/ for the shards of a part; the part's own folder is inside that of its slot."""
    return "/".join(filter(None, (f"slot={label}" if label else "", part)))


def passed_over(segments: Iterable[Segment]) -> list[str]:
    """Return a line for each kind of thing that was below a source and is no input.

    Each source is taken as it was last listed.
    """
    latest = {source.url: source for segment in segments for source in segment.sources.values()}
    return [each.below(source.url) for source in latest.values() for each in source.passed_over]


def segment_of(unit: str) -> int:
    """Return the number of the segment that `unit` belongs to."""
    return int(unit.split("-")[0])


def plan_units(
    ranges: Iterable[Range], limits: Limits, segment: int = 0, *, first: int = 0, part: str = ""
) -> Iterator[Unit]:
    """Pack `ranges`, in their order, into units of `part`, numbered from `first`; cut ranges that are too large.

    Every row of every range is in exactly one unit, order is kept, and no unit of two or more rows exceeds `limits`
    (provided that sizes are even within a range).
    """
    max_bytes = int(limits.size_mb * 1e6)
    number, held, rows, size = first, list[Range](), 0, 0
    for whole in ranges:
        for piece in cut_range(whole, limits.most_rows, max_bytes):
            if held and (rows + piece.rows > limits.most_rows or size + piece.size > max_bytes):
                yield Unit(unit_id(segment, number), tuple(held), part)
                number, held, rows, size = number + 1, [], 0, 0
            append_range(held, piece)
            rows, size = rows + piece.rows, size + piece.size
    if held:
        yield Unit(unit_id(segment, number), tuple(held), part)


# --- a segment as a file ------------------------------------------------------------------------------------------

_SCHEMA = pa.schema(
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
    units: Sequence[Unit],
    *,
    number: int,
    job: str,
    recipe: Mapping[str, Any],
    sources: Mapping[str, PlannedSource],
    measured: Mapping[str, Any] = MappingProxyType({}),
    label: str = "",
) -> bytes:
    """Encode a segment as a Parquet file: one row per unit; recipe, sources and counts in the footer."""
    head = {
        "format": FORMAT_VERSION,
        "number": number,
        "job": job,
        "label": label,
        "sources": {name: asdict(source) for name, source in sources.items()},
        "units": len(units),
        "rows": sum(unit.rows for unit in units),
        "recipe": recipe,
        "measured": dict(measured),
    }
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, _SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        for first in range(0, len(units), UNITS_PER_ROW_GROUP):
            rows = [
                {"unit": unit.id, "part": unit.part, "rows": unit.rows, "ranges": [r._asdict() for r in unit.ranges]}
                for unit in units[first : first + UNITS_PER_ROW_GROUP]
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
        writer.add_key_value_metadata({_FOOTER_KEY: json.dumps(head, sort_keys=True)})
    return buffer.getvalue()


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
    )


def _source(fields: Mapping[str, Any]) -> PlannedSource:
    return PlannedSource(url=fields["url"], passed_over=tuple(PassedOver(**each) for each in fields["passed_over"]))


def decode_units(file: Any, group: int | None = None) -> list[Unit]:
    """Read the units of a segment, or of one row group of it (UNITS_PER_ROW_GROUP units, in order)."""
    parquet = pq.ParquetFile(file, page_checksum_verification=True)
    table = parquet.read() if group is None else parquet.read_row_group(group)
    return [Unit(row["unit"], tuple(Range(**r) for r in row["ranges"]), row["part"]) for row in table.to_pylist()]
