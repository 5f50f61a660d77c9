"""Quarantine of an output for its report: why inputs are in it, the first of them, and those that can be looked at."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import images, storage
from pipeline.engine.records.account import CHANGED, FATAL
from pipeline.engine.records.layout import Output, load_unit
from pipeline.engine.records.units import segment_of
from pipeline.errors import StorageError
from pipeline.report.content import Gallery, GalleryRow, QuarantineLine
from pipeline.report.page.pictures import small
from pipeline.stores import SourceChangedError, read_rows
from pipeline.stores.forms import shard

log = logging.getLogger("transdomain")

MOST_LINES = 200
MOST_SHARDS = 1000
"""Shards of the quarantine, at most, of which the reasons are counted."""
MOST_PICTURES, MOST_TRIED, _MOST_UNITS, _MOST_UNIT_BYTES, _MOST_PIXELS = 12, 24, 4, 100_000_000, 50_000_000
"""Bounds of what is read once more to show it: pictures, inputs that are tried, units, bytes of a unit, pixels of a
picture. `engine/estimate/requests.py` counts with them."""
_NOT_TRIED = frozenset({FATAL, CHANGED, "too large", "empty", "not an image", "corrupt"})
"""Reasons for which an input is not decoded: it would end this process, or there is nothing that could be."""
_THREADS = 8


class Quarantine(NamedTuple):
    """What a report shows of a quarantine."""

    lines: Sequence[QuarantineLine]
    units: Sequence[str]
    """Units of the lines."""
    reasons: Mapping[str, int]
    """Number of rows by reason, of the shards that were read."""


def quarantine_lines(urls: Iterable[str], again: Mapping[str, int] = MappingProxyType({})) -> Iterator[QuarantineLine]:
    """Yield every row of these quarantine shards, in their order; a few shards are read before they are asked for.

    Rows are left out whose key is in a later segment of those that were run `again`.
    """
    for _, rows in _tables(urls, again):
        yield from (QuarantineLine(**row) for row in rows.to_pylist())


def look(urls: Sequence[str], again: Mapping[str, int]) -> Quarantine:
    """Return the first rows of these quarantine shards, and the reasons in the first MOST_SHARDS of them."""
    lines, units, reasons = list[QuarantineLine](), list[str](), Counter[str]()
    for unit, rows in _tables(urls[:MOST_SHARDS], again):
        reasons.update({each["values"]: each["counts"] for each in pc.value_counts(rows["reason"]).to_pylist()})
        for row in rows.slice(0, MOST_LINES - len(lines)).to_pylist():
            lines.append(QuarantineLine(**row))
            units.append(unit)
    return Quarantine(lines, units, reasons)


def _tables(urls: Iterable[str], again: Mapping[str, int]) -> Iterator[tuple[str, pa.Table]]:
    """Yield the rows of each shard, without those that a later segment ran again, and its unit."""

    def read(url: str) -> tuple[str, pa.Table]:
        unit = url.rpartition("/")[2].removesuffix(".parquet")
        rows = shard.read_columns(url, ["key", "stage", "reason", "message"])
        if again:
            segment = segment_of(unit)
            rows = rows.filter(pa.array([again.get(key, -1) <= segment for key in rows["key"].to_pylist()], pa.bool_()))
        return unit, rows

    yield from storage.ahead(read, urls, _THREADS)


def pictures_of(output: Output, found: Quarantine, column: str | None) -> Gallery | None:
    """Return those of the first quarantined inputs that can be decoded at all; None where there is none.

    They are read once more from the source, from the image column of this name. What is not shown is counted.
    """
    wanted = defaultdict[str, dict[str, QuarantineLine]](dict)
    tried = [pair for pair in zip(found.units, found.lines, strict=True) if pair[1].reason not in _NOT_TRIED]
    for unit, line in tried[:MOST_TRIED]:
        wanted[unit][line.key] = line
    rows = dict[str, GalleryRow]()  # an input of several translators comes several times
    for unit in list(wanted)[:_MOST_UNITS] if column else []:
        for key, picture in _decoded(output, unit, str(column), wanted[unit]):
            if len(rows) < MOST_PICTURES:
                rows[key] = GalleryRow(caption=key, pictures=[picture], scores=[("", wanted[unit][key].reason)])
    if not rows:
        return None
    listed = len({line.key for line in found.lines})
    others = listed - len(rows)
    note = f"Of the {listed:,} inputs listed below, {others:,} cannot be decoded, or were not tried." if others else ""
    return Gallery(
        title="Quarantined inputs that can be looked at", heads=["input"], rows=list(rows.values()), note=note
    )


def _decoded(
    output: Output, unit: str, column: str, wanted: Mapping[str, QuarantineLine]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield keys and pictures of the wanted inputs of a unit that are there and can be decoded."""
    try:
        ranges = load_unit(output, unit).ranges
        if sum(piece.size for piece in ranges) > _MOST_UNIT_BYTES:
            return
        rows = read_rows(ranges, [column], wants=wanted.__contains__)
    except (SourceChangedError, StorageError, ValueError) as error:
        log.info("%s: the report shows no quarantined inputs of unit %s: %s", output.url, unit, error)
        return
    for row in rows.to_pylist():
        try:
            data = images.encoded_in(row[column])
            yield row["key"], small(images.decode(data, max_pixels=_MOST_PIXELS, wanted=None, pages="first").pixels)
        except images.BadImage:
            continue  # its line says why
