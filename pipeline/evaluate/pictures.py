"""Galleries of an evaluation: the best and the worst images by each score, read again from the store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline import images
from pipeline.engine.records.layout import load_unit
from pipeline.evaluate.job import Evaluation
from pipeline.evaluate.measuring.reduction import Column, Extreme
from pipeline.evaluate.measuring.scoring import Scoring
from pipeline.images.basis import raster
from pipeline.report.content import Gallery, GalleryRow
from pipeline.scores.table import metric_named
from pipeline.stores import read_rows

SIDE = 384
"""Pixels of the longer side that pictures have, at most."""


def galleries(evaluation: Evaluation, columns: Mapping[str, Column], most: int) -> list[Gallery]:
    """Return a gallery for each score of the translations of one input: the best `most` rows, and the worst."""
    chosen = {name: _chosen(name, column, most) for name, column in columns.items()}
    wanted = {each.key: each.unit for rows in chosen.values() for _, each in rows}
    pictures = _pictures(evaluation, wanted)
    scoring, found = evaluation.scoring, []
    for name, rows in chosen.items():
        metric = metric_named(name)
        if not metric or not rows:
            continue
        found.append(
            Gallery(
                title=f"{metric.title}: best and worst of {evaluation.name}",
                heads=[head for head, _ in _heads(scoring)],
                rows=[
                    GalleryRow(
                        caption=each.key,
                        pictures=pictures.get(each.key, [None] * len(_heads(scoring))),
                        scores=[(f"{metric.title}, {side}", f"{each.value:.{metric.digits}f}{metric.unit}")],
                    )
                    for side, each in rows
                ],
            )
        )
    return found


def _heads(scoring: Scoring) -> list[tuple[str, str]]:
    """Return the heads of a gallery, and the column of each."""
    named = [("input", scoring.source), ("translation", scoring.image), ("target", scoring.target)]
    return [(head, column) for head, column in named if column]


def _chosen(name: str, column: Column, most: int) -> list[tuple[str, Extreme]]:
    """Return the best rows by a score, best first, then the worst, none of them twice."""
    metric = metric_named(name)
    best, worst = column.least, column.greatest
    if metric and metric.higher_is_better:
        best, worst = worst, best
    first = list(best[:most])
    taken = {each.key for each in first}
    last = [each for each in worst[:most] if each.key not in taken]
    return [("best", each) for each in first] + [("worst", each) for each in reversed(last)]


def _pictures(evaluation: Evaluation, wanted: Mapping[str, str]) -> dict[str, Sequence[np.ndarray | None]]:
    """Return the pictures of each wanted key, whose unit is known; each unit is read once, for these keys alone."""
    of_unit = defaultdict[str, set[str]](set)
    for key, unit in wanted.items():
        of_unit[unit].add(key)
    columns, found = [column for _, column in _heads(evaluation.scoring)], dict[str, Sequence[np.ndarray | None]]()
    for unit, keys in sorted(of_unit.items()):
        rows = read_rows(load_unit(evaluation.output, unit).ranges, columns, wants=keys.__contains__)
        for row in rows.to_pylist():
            found[row["key"]] = [_picture(row[column], evaluation.scoring.reading) for column in columns]
    return found


def _picture(cell: Mapping[str, bytes] | None, reading: images.Reading) -> np.ndarray | None:
    try:
        pixels = raster.shown(images.decode_by(reading, images.encoded_in(cell), wanted=None).pixels)
    except images.BadImage:
        return None
    scale = min(1.0, SIDE / max(pixels.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return np.ascontiguousarray(images.resize(np.ascontiguousarray(pixels), width, height))
