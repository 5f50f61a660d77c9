"""How a stage takes a unit apart that ends its processes, and the good picture that shows that a process works."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline import images
from pipeline.engine.records.account import Batch
from pipeline.engine.records.units import Unit

SIDE = 64
"""Side of the good picture, in pixels, where images keep their size."""


@dataclass(frozen=True, kw_only=True)
class Apart:
    """What a stage does with a unit that has ended too many processes: its rows go through processes of their own."""

    make: Callable[[], Callable[[Batch], Batch]]
    """Factory of what does each row by itself, of any of a unit's rows; must be picklable."""
    control: Callable[[Batch], Batch]
    """Function that returns one row with a good picture, in the form of this batch."""
    join: Callable[[Batch, Sequence[Batch]], Batch]
    """Function that returns what the stage makes of a batch, from what `make` made of its rows, some at a time."""
    read: Callable[[Unit], Batch] | None = None
    """Function that reads the unit, in a first stage."""


def with_good_picture(batch: Batch, columns: Sequence[str], pixel_type: images.PixelType = images.RGB) -> Batch:
    """Return the first row alone, a good picture of this type in these columns of encoded images."""
    rows = batch.rows.slice(0, 1)
    codec: images.CodecName = "png" if pixel_type in images.CODECS["png"].pixel_types else "tiff"
    picture = good_picture(2 * SIDE, SIDE, pixel_type)  # twice as wide, as pairs are
    data = images.encode(picture, images.Encoding(codec=codec))
    for name in columns:
        at = rows.column_names.index(name)
        rows = rows.set_column(at, rows.field(at), pa.array([{"bytes": data}], rows.field(at).type))
    return Batch(batch.unit, with_good_key(rows))


def with_good_key(rows: pa.Table) -> pa.Table:
    """Return a row under a key that every output can have."""
    at = rows.column_names.index("key")
    return rows.set_column(at, rows.field(at), pa.array(["good"]).cast(rows.field(at).type))


def good_picture(width: int, height: int, pixel_type: images.PixelType = images.RGB) -> np.ndarray:
    """Return a picture of this type with a gradient in each channel, [height, width, channels]."""
    down, right = np.mgrid[0:height, 0:width]
    peak = pixel_type.peak
    gradients = [down * peak // height, right * peak // width, (down + right) % (peak + 1)]
    return np.stack([gradients[i % 3] for i in range(pixel_type.channels)], -1).astype(pixel_type.dtype)
