"""Ranking of an output's rows by the scores in its columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.engine.completion import finish
from pipeline.engine.records.layout import Output
from pipeline.report.content import Chart, histogram_bins
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
    side: str
    """Why it is shown, such as "Best by cycle_l1"."""
    scores: Sequence[tuple[str, str]]
    """Names and values of all scores of the row."""


class Ranking(NamedTuple):
    """Scores of an output, and its best and worst rows by each of them."""

    charts: Sequence[Chart]
    """Histogram of each score, with its numbers in the note."""
    picked: Sequence[Picked]
    """Those of each side together: the best from the best on, the worst from the worst on."""


def rank(output: Output, units: pa.Table, names: Sequence[str], most: int) -> Ranking | None:
    """Return the ranking of the rows of these units, at most `most` of them picked for each score; None where they have
    no scores."""
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
    picked = [
        Picked(made[of_unit[at]], int(place[at]), f"{side} by {name}", [(n, _text(scores[n][at])) for n in names])
        for name in names
        for side, chosen in _best_and_worst(scores[name], HIGHER_IS_BETTER[name], most)
        for at in chosen
    ]
    return Ranking(list(_histograms(scores, what)), picked)


def _best_and_worst(values: np.ndarray, higher_is_better: bool, most: int) -> Sequence[tuple[str, np.ndarray]]:
    """Return the places of at most `most` values, half of them the best ones; no place is in both halves."""
    order = np.argsort(-values if higher_is_better else values, kind="stable")
    order = order[~np.isnan(values[order])]
    half = min(most // 2, (len(order) + 1) // 2)
    return [("Best", order[:half]), ("Worst", order[max(half, len(order) - half) :][::-1])]


def _histograms(scores: Mapping[str, np.ndarray], what: str) -> Iterator[Chart]:
    for name, values in scores.items():
        better = "higher" if HIGHER_IS_BETTER[name] else "lower"
        if bins := histogram_bins({name: values.tolist()}):
            yield Chart(
                title=f"{name}{what}",
                kind="histogram",
                x_title=f"{name} (no unit, {better} is better)",
                y_title="images",
                series=bins,
                note=_in_numbers(values),
                section="Scores of the translations",
            )


def _text(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.4f}"


def _in_numbers(values: np.ndarray) -> str:
    """Return number, median, mean and range of values in a sentence; those that are missing are counted."""
    there = values[~np.isnan(values)]
    least, most = f"{there.min():.4f}", f"{there.max():.4f}"
    lack = len(values) - len(there)
    missing = f" {lack:,} image{'s lack' if lack > 1 else ' lacks'} it." if lack else ""
    middle = f"median {np.median(there):.4f}, mean {there.mean():.4f}"
    return f"{len(there):,} images: {middle}, from {least} to {most}.{missing}"
