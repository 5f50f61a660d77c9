"""Galleries of an evaluation: the best and the worst images by each score, read again from the store."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipeline import images
from pipeline.engine.records.layout import load_unit
from pipeline.errors import StorageError, UserError, one_line
from pipeline.evaluate.job import Evaluation
from pipeline.evaluate.measuring.reduction import Column, Extreme
from pipeline.evaluate.measuring.scoring import Scoring
from pipeline.images.basis import raster
from pipeline.report.content import Gallery, GalleryRow
from pipeline.scores.table import Metric, metric_named
from pipeline.stores import SourceChangedError, read_rows

log = logging.getLogger("transdomain")

SIDE = 384
"""Pixels of the longer side that pictures have, at most."""
MOST_CYCLES, MOST_CYCLE_PIXELS = 24, 4_000_000
"""Bounds of what is translated back once more to show it: images, and pixels of all of them together."""
_CYCLE = "The cycle is the translation, translated back by the other generator: the nearer to the input, the better."

Picture = np.ndarray | str
"""Pixels, uint8 [H, W, 3], or why there are none."""


def galleries(evaluation: Evaluation, columns: Mapping[str, Column], most: int, of: str = "") -> list[Gallery]:
    """Return a gallery for each score of the translations of one input: the best `most` rows, and the worst.

    `of` names the input, where there are others. Where cycle consistency is measured, the translations are translated
    back once more, as far as MOST_CYCLES and MOST_CYCLE_PIXELS go. What cannot be read or made has its reason in its
    place.
    """
    chosen = {name: _chosen(name, column, most) for name, column in columns.items()}
    # Those that show the cycle's error come first where not all cycles can be made.
    in_turn = sorted(chosen, key=lambda name: name != "cycle_l1")
    wanted = {each.key: each.unit for name in in_turn for _, each in chosen[name]}
    heads = [*(head for head, _ in _heads(evaluation.scoring)), *(["cycle"] if evaluation.scoring.cycle else [])]
    pictures, found = _pictures(evaluation, wanted), list[Gallery]()
    for name, rows in chosen.items():
        metric = metric_named(name)
        if not metric or not rows:
            continue
        found.append(
            Gallery(
                title=_title(metric, rows, columns[name], f" of {of}" if of else ""),
                heads=heads,
                rows=[
                    GalleryRow(
                        caption=each.key,
                        pictures=pictures[each.key],
                        scores=[(", ".join(filter(None, (metric.title, side))), _value(metric, each.value))],
                    )
                    for side, each in rows
                ],
                note=_CYCLE if evaluation.scoring.cycle and not found else "",
            )
        )
    return found


def _heads(scoring: Scoring) -> list[tuple[str, str]]:
    """Return the heads of a gallery, and the column of each."""
    named = [("input", scoring.source), ("translation", scoring.image), ("target", scoring.target)]
    return [(head, column) for head, column in named if column]


def _title(metric: Metric, rows: Sequence[tuple[str, Extreme]], column: Column, of: str) -> str:
    """Return the title of a gallery, after what it shows."""
    if len(rows) < column.images + column.infinite:
        return f"{metric.title}: best and worst images{of}"
    return f"{metric.title}: all {len(rows):,} images{of}, the best first" if len(rows) > 1 else f"{metric.title}{of}"


def _value(metric: Metric, value: float) -> str:
    return f"{value:.{metric.digits}f}{metric.unit}"


def _chosen(name: str, column: Column, most: int) -> list[tuple[str, Extreme]]:
    """Return the best rows by a score, best first, then the worst, none of them twice; each with its side.

    Where these are all that there are, they have no side.
    """
    metric = metric_named(name)
    best, worst = column.least, column.greatest
    if metric and metric.higher_is_better:
        best, worst = worst, best
    first = list(best[:most])
    taken = {each.key for each in first}
    last = [each for each in worst[:most] if each.key not in taken]
    all_there = len(first) + len(last) == column.images + column.infinite
    sides = ("", "") if all_there else ("best", "worst")
    return [(sides[0], each) for each in first] + [(sides[1], each) for each in reversed(last)]


def _pictures(evaluation: Evaluation, wanted: Mapping[str, str]) -> dict[str, list[Picture]]:
    """Return the pictures of each wanted key, whose unit is known; each unit is read once, for these keys alone."""
    of_unit = defaultdict[str, set[str]](set)
    for key, unit in wanted.items():
        of_unit[unit].add(key)
    scoring, found = evaluation.scoring, dict[str, list[Picture]]()
    back = _Back(scoring, list(wanted)[:MOST_CYCLES]) if scoring.cycle and wanted else None
    columns = [column for _, column in _heads(scoring)]
    for unit, keys in sorted(of_unit.items()):
        try:
            rows = read_rows(load_unit(evaluation.output, unit).ranges, columns, wants=keys.__contains__)
        except (SourceChangedError, StorageError, FileNotFoundError) as error:
            log.warning("%s: the report shows no images of unit %s: %s", evaluation.output.url, unit, one_line(error))
            continue
        for i in range(len(rows)):
            row = rows.slice(i, 1).to_pylist()[0]
            pixels = {column: _decoded(row[column], scoring.reading) for column in columns}
            found[row["key"]] = [_shown(pixels[column]) for column in columns]
            if back:
                found[row["key"]].append(_shown(back(row["key"], pixels[scoring.image])))
    missing: list[Picture] = ["not read again"] * (len(columns) + bool(back))
    return {key: found.get(key, missing) for key in wanted}


class _Back:
    """Way back of the translations that are shown, within the bounds of a report."""

    def __init__(self, scoring: Scoring, keys: Sequence[str]) -> None:
        """Load the network; where it cannot be, say why in each cycle's place. Only cycles of these `keys` are made."""
        from pipeline.evaluate.measuring.networks import cycles

        self._keys, self._pixels = frozenset(keys), 0
        self._back: Callable[[np.ndarray], Picture] | None = None
        self._why = ""
        try:
            self._back = cycles(scoring.bundle, scoring.direction, scoring.cycle, scoring.device)
        except (UserError, StorageError, ValueError) as error:
            self._why = f"not made: {one_line(error)}"
            log.warning("the report shows no cycles: %s", one_line(error))

    def __call__(self, key: str, translation: Picture) -> Picture:
        if self._back is None or isinstance(translation, str):
            return self._why or "not made"
        if key not in self._keys:
            return f"not made: {len(self._keys):,} cycles are shown at most"
        pixels = translation.shape[0] * translation.shape[1]
        if self._pixels + pixels > MOST_CYCLE_PIXELS:
            return "not made: too many pixels"
        self._pixels += pixels
        return self._back(translation)


def _decoded(cell: Mapping[str, bytes] | None, reading: images.Reading) -> Picture:
    try:
        return images.decode_by(reading, images.encoded_in(cell), wanted=None).pixels
    except images.BadImage as bad:
        return bad.reason


def _shown(pixels: Picture) -> Picture:
    """Return pixels as a page shows them."""
    if isinstance(pixels, str):
        return pixels
    pixels = raster.shown(pixels)
    scale = min(1.0, SIDE / max(pixels.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return np.ascontiguousarray(images.resize(np.ascontiguousarray(pixels), width, height))
