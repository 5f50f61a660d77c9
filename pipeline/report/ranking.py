"""Ranking of an output's rows by the scores in its columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.engine.completion import finish
from pipeline.engine.records.layout import Output
from pipeline.report.content import Table
from pipeline.scores.names import HIGHER_IS_BETTER

MOST_UNITS = 500
"""Units, at most, whose scores are read."""
_THREADS = 8


class Picked(NamedTuple):
    """Row that is shown for its score."""

    unit: Mapping[str, Any]
    """Its unit's row of the manifest."""
    place: int
    """Number of the row in the unit's data."""
    caption: str


class Ranking(NamedTuple):
    """Scores of an output in numbers, and its best and worst rows by the first of them."""

    table: Table
    picked: Sequence[Picked]


def rank(output: Output, units: pa.Table, names: Sequence[str], most: int) -> Ranking | None:
    """Return the ranking of the rows of these units, at most `most` of them picked; None where they have no scores."""
    found, made = list[tuple[int, pa.Table]](), units.slice(0, MOST_UNITS).to_pylist()
    for i, rows in enumerate(storage.ahead(lambda row: finish.read_made(output, row, names), made, _THREADS)):
        if rows is not None and set(names) <= set(rows.column_names):
            found.append((i, rows))
    if not found:
        return None
    of_unit = np.concatenate([np.full(len(rows), i) for i, rows in found])
    place = np.concatenate([np.arange(len(rows)) for _, rows in found])
    scores = {name: np.concatenate([rows[name].to_numpy() for _, rows in found]).astype(float) for name in names}
    what = "" if len(made) == len(units) else f", in the first {len(made):,} of {len(units):,} units"
    table = Table(
        title=f"Scores of the images that were kept{what}",
        columns=["score", "images", "least", "median", "mean", "greatest"],
        rows=[[name, *_in_numbers(scores[name])] for name in names],
    )
    first = scores[names[0]]
    order = np.argsort(-first if HIGHER_IS_BETTER[names[0]] else first, kind="stable")
    order = order[~np.isnan(first[order])]
    half = min(most // 2, (len(order) + 1) // 2)
    picks = [("best", order[:half]), ("worst", order[max(half, len(order) - half) :][::-1])]
    return Ranking(
        table,
        [
            Picked(made[of_unit[at]], int(place[at]), f"{side} {n}, {names[0]} {first[at]:.4f}")
            for side, chosen in picks
            for n, at in enumerate(chosen, 1)
        ],
    )


def _in_numbers(values: np.ndarray) -> Iterator[str]:
    there = values[~np.isnan(values)]
    yield f"{len(there):,}"
    for number in (there.min(), np.median(there), there.mean(), there.max()) if len(there) else ():
        yield f"{number:.4f}"
    if not len(there):
        yield from ["–"] * 4
