"""Size of the units of a translation: by the rate of the model on images of this corpus, and by the pool."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from pipeline import images
from pipeline.engine.records.units import Limits
from pipeline.errors import StorageError
from pipeline.models.arithmetic import Arithmetic, Figures
from pipeline.stores import SourceChangedError, Store, read_rows
from pipeline.stores.forms.registry import form_of_ranges
from pipeline.stores.tables.ranges import first_rows
from pipeline.translate.config import TranslationOptions

_SAMPLE = 64
"""Rows whose recorded sizes are looked at."""


def fitted_limits(
    options: TranslationOptions, source: Store, models: Sequence[tuple[Arithmetic, Figures]], column: str
) -> Limits:
    """Return the limits of a unit, in rows by the rate of the slowest model and the number of actors."""
    known = [figures.seconds_of(arithmetic.form) for arithmetic, figures in models if figures.seconds]
    if options.limits.rows is not None or not known:
        return options.limits
    pixels = typical_pixels(source, column) if options.size == "native" else None
    seconds = [figures.seconds_of(arithmetic.form, pixels) or 0.0 for arithmetic, figures in models]
    return options.limits.fitted(source.rows, seconds=max(seconds), actors=max(figures.actors for _, figures in models))


def typical_pixels(source: Store, column: str) -> float | None:
    """Return the number of pixels of an ordinary image among the first of a store; None where that takes a long read.

    It is the median of the recorded sizes, where the store has them, else that of the first file of a folder.
    """
    first = [piece for piece in source.ranges if piece.rows]
    try:
        if column == "image" and {"width", "height"} <= set(source.schema.names):
            rows = read_rows(first_rows(first, _SAMPLE), ("width", "height")).to_pylist()
            sizes = [row["width"] * row["height"] for row in rows if row["width"] and row["height"]]
            return statistics.median(sizes) if sizes else None
        if form_of_ranges(first).names_are_keys:
            row = read_rows(first_rows(first, 1), (column,)).to_pylist()[0]
            height, width = images.decode(images.encoded_in(row[column])).pixels.shape[:2]
            return height * width
    except (images.BadImage, SourceChangedError, StorageError, TypeError):
        return None  # its unit will say so; here it only decides how large the units are
    return None
