"""Images that a translation has before it: how many, of what sizes, and the units that they are cut into."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline import images
from pipeline.engine.estimate.forecast import Costing
from pipeline.engine.records.limits import Limits
from pipeline.errors import StorageError
from pipeline.models.arithmetic import Arithmetic, Figures, Size
from pipeline.stores import SourceChangedError, Store, read_rows
from pipeline.stores.forms.registry import form_of_ranges
from pipeline.stores.tables.ranges import Range, first_rows
from pipeline.translation.options import TranslationOptions

GIVEN = "given"
"""In place of a machine, where the user says the rate."""
_SAMPLE = 64
"""Rows whose recorded sizes are looked at."""
_FILES = 8
"""Files of a folder that are read for their sizes."""


class Planned(NamedTuple):
    """Images that one model is to translate."""

    images: int
    sizes: Sequence[Size]
    """Sizes of some of them, as they come to the network; empty where nothing is known of them."""


@dataclass(frozen=True)
class Work:
    """Images of one store, and what is done to their size. Nothing is read before it is asked for."""

    source: Store
    column: str
    side: int | None
    """Side, in pixels, that they are resized to; None for their own size."""
    rows: Callable[[], int]
    """Function that says how many of the images are to be translated; it may read the footers of all shards."""
    pixel_bytes: int = images.RGB.bytes
    """Bytes that a pixel takes at most, decoded or translated."""

    @functools.cached_property
    def sizes(self) -> Sequence[Size]:
        """Sizes of some of the images, as they are translated; empty where it would take a long read to know them."""
        return [(self.side, self.side)] if self.side else sample_sizes(self.source, self.column)

    @property
    def pixels(self) -> float | None:
        """Return the number of pixels of an ordinary image; None where it is not known."""
        return ordinary_pixels(self.sizes)

    def planned(self) -> Planned:
        """Return what can be sent to another process."""
        return Planned(self.rows(), self.sizes)


def ordinary_pixels(sizes: Sequence[Size]) -> float | None:
    """Return the number of pixels of an ordinary image among these; None where there are none."""
    return statistics.median(height * width for height, width in sizes) if sizes else None


def costing_of(
    options: TranslationOptions,
    column: str,
    models: Sequence[tuple[Arithmetic, Figures, Work]],
    shares: Sequence[float],
    compute: Callable[..., Any],
    *,
    in_one_pass: int = 0,
    scored: bool = False,
) -> Costing:
    """Return what is known of the cost of translations of `column` by these models.

    `shares` are those of the images that each work wants; works after those of the models translate nothing. Where one
    work makes so many translations of each image `in_one_pass`, it takes the time of all models. Scores (`scored`) take
    time of the device that is known by a sample alone.
    """
    resources = options.resources
    of_works = [functools.partial(_row_s, [model], share) for model, share in zip(models, shares, strict=False)]
    if in_one_pass:
        of_works = [functools.partial(_row_s, models, 1 / in_one_pass)]
    measured = [figures for _, figures, _ in models if figures.seconds]
    actors = max((figures.actors for figures in measured), default=None)
    is_given = any(figures.machine == GIVEN for figures in measured)
    basis = "at the given rate" if is_given else "at the measured speed of the model"
    return Costing(
        column=column,
        image_s=[*of_works, *[lambda pixels: 0.0] * (len(shares) - len(of_works))],
        basis=f"{basis}; scores come on top" if scored else basis,
        pixels=lambda: next((work.pixels for _, _, work in models), None),
        devices=1 if options.local else resources.max_actors or resources.actors or (None if is_given else actors),
        cores=1 if options.local else models[0][0].threads if models else None,
        prices=options.prices,
        sample=options.sample,
        compute=compute,
        where={"device": options.device, "cpus": resources.actor_cpus, "gpus": resources.actor_gpus},
    )


def _row_s(models: Sequence[tuple[Arithmetic, Figures, Work]], share: float, pixels: float) -> float | None:
    """Return the seconds of a device for a planned row, which takes this share of the models' time for an image."""
    total = 0.0
    for made, figures, work in models:
        is_given = figures.machine == GIVEN  # for the sizes that there are
        seconds = figures.seconds_of(made.form, work.pixels if is_given else work.side**2 if work.side else pixels)
        if seconds is None:
            return None
        total += seconds
    return total * share


def fitted_limits(
    options: TranslationOptions,
    models: Sequence[tuple[Arithmetic, Figures, Work]],
    rows: int,
    *,
    in_one_pass: int = 0,
) -> Limits:
    """Return the limits of a unit where `rows` are planned: by the rate of the slowest model and the number of actors,
    and so many that images of an ordinary size may all be held at once.

    Where each image gets several translations `in_one_pass`, a unit takes the time of all models, and the room of all
    translations.
    """
    limits = options.limits
    if limits.rows is not None:
        return limits
    measured = [each for each in models if each[1].seconds]
    if measured:
        each = [(figures.seconds_of(made.form, work.pixels) or 0.0, figures.actors) for made, figures, work in measured]
        seconds, actors = max(each)
        if in_one_pass:
            seconds = sum(seconds for seconds, _ in each)
        at_once = max(_images_at_once(made, work) for made, _, work in measured)
        limits = limits.fitted(rows, seconds=seconds, actors=actors, at_once=at_once)
    pixels = [work.pixels for _, _, work in models if work.pixels]
    if not pixels:
        return limits
    return limits.holding(max(pixels) * max(work.pixel_bytes for *_, work in models) * max(in_one_pass, 1))


def _images_at_once(made: Arithmetic, work: Work) -> int:
    """Return the number of images of an ordinary size that one process translates at once, each in a thread."""
    side = round((work.pixels or 1.0) ** 0.5)
    return made.at_once((side, side)) if made.is_alone((side, side)) else 1


def sample_sizes(source: Store, column: str) -> Sequence[Size]:
    """Return the heights and widths of some of the first images of a store; none where that takes a long read.

    They are the recorded ones, where the store has them, else those of the first files of a folder.
    """
    first = source.first_rows(_SAMPLE)
    try:
        if column == "image" and {"width", "height"} <= set(source.schema.names):
            rows = read_rows(first, ("width", "height")).to_pylist()
            return [(row["height"], row["width"]) for row in rows if row["width"] and row["height"]]
        if form_of_ranges(first).names_are_keys:
            return _decoded_sizes(first_rows(first, _FILES), column)
    except (SourceChangedError, StorageError, TypeError):
        pass  # its unit will say so; here it only decides how large the units are, and what is compiled
    return []


def _decoded_sizes(ranges: Sequence[Range], column: str) -> list[Size]:
    found = []
    for row in read_rows(ranges, (column,)).to_pylist():
        try:
            height, width = images.decode(images.encoded_in(row[column]), wanted=None, pages="first").pixels.shape[:2]
        except images.BadImage:
            continue
        found.append((height, width))
    return found
