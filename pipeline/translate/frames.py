"""Decoded images as Arrow columns, so that a unit travels between processes without a copy per image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from pipeline.images import PixelType
from pipeline.stores.tables.schema import INTERNAL

PIXELS, HEIGHT, WIDTH = (f"{INTERNAL}{name}" for name in ("pixels", "height", "width"))
"""Columns of decoded frames: their values, and their size. Their type is known to whoever reads them."""


def with_frames(rows: pa.Table, frames: Sequence[np.ndarray]) -> pa.Table:
    """Return `rows` with columns for `frames` ([height, width, channels], one per row), in place of any they have."""
    rows = without_frames(rows)
    data = pa.array([np.ascontiguousarray(f).data.cast("B") for f in frames], pa.large_binary())
    rows = rows.append_column(PIXELS, data)
    rows = rows.append_column(HEIGHT, pa.array([f.shape[0] for f in frames], pa.int32()))
    return rows.append_column(WIDTH, pa.array([f.shape[1] for f in frames], pa.int32()))


def without_frames(rows: pa.Table) -> pa.Table:
    """Return `rows` without the columns of decoded frames."""
    return rows.drop_columns([c for c in (PIXELS, HEIGHT, WIDTH) if c in rows.column_names])


def frames_of(rows: pa.Table, pixel_type: PixelType) -> Iterator[np.ndarray]:
    """Yield the frames of `rows`, [height, width, channels], as read-only views of the table's memory."""
    for pixels, height, width in zip(_values(rows, PIXELS), _values(rows, HEIGHT), _values(rows, WIDTH), strict=True):
        shape = pixel_type.shape(height.as_py(), width.as_py())
        yield np.frombuffer(pixels.as_buffer(), pixel_type.dtype).reshape(shape)


def _values(rows: pa.Table, column: str) -> Iterable[pa.Scalar]:
    return (value for chunk in rows[column].chunks for value in chunk)
