"""Galleries of an output for its report: first rows, or the best and the worst, beside what they were made from."""

from __future__ import annotations

import itertools
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import images
from pipeline.engine.completion import finish
from pipeline.engine.records.layout import Output, load_unit
from pipeline.errors import StorageError
from pipeline.report.content import Gallery, GalleryRow
from pipeline.report.page.pictures import small
from pipeline.report.ranking import Picked
from pipeline.stores import SourceChangedError, Store, image_columns, read_rows
from pipeline.stores.tables.ranges import first_rows

log = logging.getLogger("transdomain")

MOST_ROWS = 12
_FIRST = "The first images"
_SOURCE = "source_image"
_PAIR = {"image_a": "image_b", "image_b": "image_a"}


class _Shown(NamedTuple):
    """Rows of a unit that are shown."""

    made: Mapping[str, Any]
    """The unit's row of the manifest."""
    rows: pa.Table
    places: Sequence[tuple[int, str, Sequence[tuple[str, str]]]]
    """For each row: its place among all that are shown, the title of its gallery, and its scores."""
    first: int
    """Number of the unit's first inputs among which those of the rows are."""


def sample_galleries(
    output: Output,
    units: pa.Table,
    picked: Sequence[Picked],
    sources: Sequence[Store],
    input_column: str | None,
) -> list[Gallery]:
    """Return a gallery for each side of those that were `picked`; without any, one of the first rows of these units.

    `input_column` names the column that a translation was made from, whose images are shown beside it.
    """
    names = [*_columns(sources), "translator"]
    shown = _of_picked(output, picked, names) if picked else _of_first_rows(output, units, names)
    found = dict[int, tuple[str, GalleryRow]]()
    columns: list[str] = []
    for some in shown:
        columns = columns or [c for c in image_columns(some.rows.schema) if c != _SOURCE]
        kept = some.rows.column(_SOURCE).to_pylist() if _SOURCE in some.rows.column_names else None
        made_from = {} if kept else _inputs(output, some, input_column)
        for i, (row, (place, title, scores)) in enumerate(zip(some.rows.to_pylist(), some.places, strict=True)):
            pictures = [_picture(row.get(column)) for column in columns]
            if input_column is not None:
                cell = kept[i] if kept else {"bytes": made_from.get(row.get("source_key"))}
                pictures = [_picture(cell), *pictures]
            said = [("translator", row["translator"])] if row.get("translator") else []
            found[place] = (title, GalleryRow(caption=str(row["key"]), pictures=pictures, scores=[*said, *scores]))
    heads = _heads(columns, input_column)
    titles = dict.fromkeys(found[place][0] for place in sorted(found))
    return [
        Gallery(title=title, heads=heads, rows=[found[p][1] for p in sorted(found) if found[p][0] == title])
        for title in titles
        if heads
    ]


def _columns(sources: Sequence[Store]) -> list[str]:
    """Return the columns of an output that the galleries need, where they are there."""
    of_sources = {column for store in sources for column in image_columns(store.schema)}
    return ["key", "source_key", *dict.fromkeys(["image", "image_a", "image_b", _SOURCE, *sorted(of_sources)])]


def _heads(columns: Sequence[str], input_column: str | None) -> list[str]:
    """Return the names of the pictures of a row, for people."""
    titles = {"image_a": "A", "image_b": "B"}
    if input_column is None:
        return [titles.get(column, column) for column in columns]
    target = _PAIR.get(input_column)
    others = {"image": "translation"} | ({target: f"target ({target})"} if target else {})
    return [f"input ({input_column})", *(others.get(column, column) for column in columns)]


def _of_first_rows(output: Output, units: pa.Table, names: Sequence[str]) -> Iterator[_Shown]:
    """Yield the first rows of the first units of each part."""
    parts = {data.rpartition("/")[0] for data in units["data"].to_pylist()}
    left = Counter(dict.fromkeys(parts, -(-MOST_ROWS // max(len(parts), 1))))
    places = itertools.count()
    for made in (row for batch in units.to_batches(MOST_ROWS) for row in batch.to_pylist()):
        if not any(left.values()):
            break
        part = made["data"].rpartition("/")[0]
        if not left[part] or not made["data"].startswith("data/"):
            continue
        rows = finish.read_made(output, made, names, first=left[part])
        if rows is None:
            continue
        left[part] -= len(rows)
        # Rows keep their order, so these come from the same number of first inputs, plus those that are not among
        # the rows.
        first = len(rows) + made["quarantined"] + made["skipped"]
        yield _Shown(made, rows, [(next(places), _FIRST, ()) for _ in range(len(rows))], first)


def _of_picked(output: Output, picked: Sequence[Picked], names: Sequence[str]) -> Iterator[_Shown]:
    """Yield the rows that were picked, those of a unit together, so that each unit is read once."""
    of_unit = defaultdict[str, list[tuple[int, Picked]]](list)
    for place, each in enumerate(picked):
        of_unit[each.unit["unit"]].append((place, each))
    for chosen in of_unit.values():
        made = chosen[0][1].unit
        rows = finish.read_made(output, made, names)
        if rows is not None:
            places = [(place, each.side, each.scores) for place, each in chosen]
            yield _Shown(made, rows.take([each.place for _, each in chosen]), places, made["inputs"])


def _picture(cell: Mapping[str, Any] | None) -> np.ndarray | None:
    """Return the image in a cell of an image column, as large as it is shown; None where there is none."""
    try:
        return small(images.decode(images.encoded_in(cell), wanted=None, pages="first").pixels)
    except images.BadImage:
        return None


def _inputs(output: Output, shown: _Shown, input_column: str | None) -> dict[str, Any]:
    """Return, by source key, the inputs of the rows that are shown, from the `first` inputs of their unit."""
    if input_column is None:
        return {}
    wanted = set(shown.rows["source_key"].to_pylist())
    try:
        ranges = first_rows(load_unit(output, shown.made["unit"]).ranges, shown.first)
        rows = read_rows(ranges, [input_column], wants=wanted.__contains__)
    except (SourceChangedError, StorageError) as error:
        # The translations are complete: an image in the report is no reason to fail.
        log.info("%s: the report shows no inputs: %s", output.url, error)
        return {}
    return {row["key"]: (row[input_column] or {}).get("bytes") for row in rows.to_pylist()}
