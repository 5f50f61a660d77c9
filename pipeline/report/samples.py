"""Rows of an output that its report shows as pictures: the first ones, or the best and the worst."""

from __future__ import annotations

import itertools
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import images
from pipeline.engine.completion import finish
from pipeline.engine.records.layout import Output, load_unit
from pipeline.errors import StorageError
from pipeline.report.contact_sheet import contact_sheet, fitted
from pipeline.report.ranking import Picked, Ranking
from pipeline.stores import SourceChangedError, Store, image_columns, read_rows
from pipeline.stores.tables.ranges import first_rows

log = logging.getLogger("transdomain")

SHEET_ROWS = 12


class Shown(NamedTuple):
    """Rows of a unit that the sheet shows."""

    made: Mapping[str, Any]
    """The unit's row of the manifest."""
    rows: pa.Table
    captions: Mapping[int, str]
    """Captions of these rows, by their places on the sheet, in the order of the rows."""
    first: int
    """Number of the unit's first inputs among which those of the rows are."""


def sheet_columns(sources: Sequence[Store]) -> list[str]:
    """Return the columns of an output that the sheet needs, where they are there."""
    of_sources = {column for store in sources for column in image_columns(store.schema)}
    return ["key", "source_key", *dict.fromkeys(["image", "image_a", "image_b", *sorted(of_sources)])]


def first_rows_of(output: Output, units: pa.Table) -> Callable[[Sequence[str]], Iterator[Shown]]:
    """Return a function that yields, with these columns, the first rows of the first units of each part."""

    def shown(names: Sequence[str]) -> Iterator[Shown]:
        parts = {data.rpartition("/")[0] for data in units["data"].to_pylist()}
        left = Counter(dict.fromkeys(parts, -(-SHEET_ROWS // max(len(parts), 1))))
        places = itertools.count()
        for made in (row for batch in units.to_batches(SHEET_ROWS) for row in batch.to_pylist()):
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
            captions = {next(places): str(key) for key in rows["key"].to_pylist()}
            yield Shown(made, rows, captions, first)

    return shown


def ranked_rows(output: Output, ranking: Ranking) -> Callable[[Sequence[str]], Iterator[Shown]]:
    """Return a function that yields, with these columns, the best and the worst rows."""

    def shown(names: Sequence[str]) -> Iterator[Shown]:
        of_unit = defaultdict[str, dict[int, Picked]](dict)
        for place, picked in enumerate(ranking.picked):
            of_unit[picked.unit["unit"]][place] = picked
        for chosen in of_unit.values():  # each unit is read once
            made = next(iter(chosen.values())).unit
            rows = finish.read_made(output, made, names)
            if rows is not None:
                rows = rows.take([picked.place for picked in chosen.values()])
                keys = zip(chosen.items(), rows["key"].to_pylist(), strict=True)
                captions = {place: f"{picked.caption}: {key}" for (place, picked), key in keys}
                yield Shown(made, rows, captions, made["inputs"])

    return shown


def sample_sheet(
    output: Output,
    shown: Callable[[Sequence[str]], Iterator[Shown]],
    names: Sequence[str],
    input_column: str | None,
) -> bytes | None:
    """Return a sheet of rows of an output; next to a translation, its input."""
    samples = dict[int, tuple[str, list[np.ndarray]]]()
    columns: list[str] = []
    for made, rows, captions, first in shown(names):
        columns = columns or image_columns(rows.schema)
        made_from = _sources(output, made["unit"], input_column, first, rows)
        for row, (place, caption) in zip(rows.to_pylist(), captions.items(), strict=True):
            cells = [row.get(c) for c in columns]
            if input_column is not None:
                cells = [{"bytes": made_from.get(row.get("source_key"))}, *cells]
            samples[place] = (caption, [_picture(value) for value in cells])
    if not columns:
        return None
    titles = {"image": "translation" if input_column else "image", "image_a": "A", "image_b": "B"}
    heads = ([f"input ({input_column})"] if input_column else []) + [titles.get(c, c) for c in columns]
    in_order = [samples[place] for place in sorted(samples)]
    return contact_sheet(heads, [p for _, p in in_order], captions=[caption for caption, _ in in_order])


def _picture(value: Mapping[str, Any] | None) -> np.ndarray:
    """Return the image in a cell of an image column, as large as it is shown; a grey one where there is none."""
    try:
        return fitted(images.decode(images.encoded_in(value), wanted=None).pixels)
    except images.BadImage:
        return np.full((48, 48, 3), 200, np.uint8)


def _sources(output: Output, unit: str, input_column: str | None, first: int, shown: pa.Table) -> dict[str, Any]:
    """Return, by source key, the inputs of a unit's rows that are shown; only its `first` inputs are searched."""
    if input_column is None:
        return {}
    wanted = set(shown["source_key"].to_pylist())
    try:
        rows = read_rows(first_rows(load_unit(output, unit).ranges, first), [input_column], wants=wanted.__contains__)
    except (SourceChangedError, StorageError) as error:
        # The translations are complete: an image in the report is no reason to fail.
        log.info("%s: the report shows no inputs: %s", output.url, error)
        return {}
    return {row["key"]: (row[input_column] or {}).get("bytes") for row in rows.to_pylist()}
