"""Decoded images of a unit: one after the other in one piece of memory, which travels between processes as it is.

The rows say where in it each of them is. So an image is decoded into its place, and rows can be dropped without moving
the others' pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.engine.records.account import Batch, joined
from pipeline.images import PixelType
from pipeline.images.basis import raster
from pipeline.stores.tables.schema import INTERNAL

OFFSET, HEIGHT, WIDTH = (f"{INTERNAL}{name}" for name in ("offset", "height", "width"))
"""Columns of decoded images: the first byte of their pixels, and their size. Their type is known to whoever reads
them."""


class Frames:
    """Memory that is filled with decoded images, in the order of the rows."""

    def __init__(self, size: int) -> None:
        """Reserve so many bytes; more are taken where they do not suffice."""
        self._memory = raster.empty((size,))  # untouched, it takes no room yet
        self._used = 0
        self._offsets: list[int] = []
        self._shapes: list[tuple[int, ...]] = []

    @property
    def room(self) -> np.ndarray:
        """Return the bytes where the next image will be, uint8 [N]."""
        return self._memory[self._used :]

    def add(self, pixels: np.ndarray) -> None:
        """Add an image, [height, width, channels]; it is copied unless it is at the beginning of `room` already."""
        begins = self.room.ctypes.data == pixels.ctypes.data and pixels.flags.c_contiguous
        place = self.place(pixels.shape, pixels.dtype)
        if not begins or place.ctypes.data != pixels.ctypes.data:
            place[...] = pixels

    def place(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Add an image of this shape and type whose pixels are still to come, and return the memory for them."""
        size = int(np.prod(shape)) * dtype.itemsize
        if len(self.room) < size:
            self._memory = np.concatenate([self._memory[: self._used], np.empty(size, np.uint8)])
        place = self.room[:size].view(dtype).reshape(shape)
        self._offsets.append(self._used)
        self._shapes.append(shape)
        self._used += size
        return place

    def of(self, batch: Batch) -> Batch:
        """Return `batch` with these images, one for each of its rows, in place of any that it has."""
        rows = without_frames(batch).rows.append_column(OFFSET, pa.array(self._offsets, pa.int64()))
        rows = rows.append_column(HEIGHT, pa.array([shape[0] for shape in self._shapes], pa.int32()))
        rows = rows.append_column(WIDTH, pa.array([shape[1] for shape in self._shapes], pa.int32()))
        return replace(batch, rows=rows, pixels=pa.py_buffer(self._memory[: self._used]))


def joined_frames(whole: Batch, parts: Sequence[Batch]) -> Batch:
    """Return what `joined` returns, with the decoded images of the parts, where they have them."""
    held = [part.pixels for part in parts if part.pixels is not None]
    if not held:
        return joined(whole, parts)
    pieces, moved, used = list[np.ndarray](), list[Batch](), 0
    for part, pixels in zip(parts, held, strict=True):  # none of a unit's rows travel encoded, or all do
        at = part.rows.column_names.index(OFFSET)
        offsets = pc.add(part.rows[OFFSET], used)
        moved.append(replace(part, rows=part.rows.set_column(at, OFFSET, offsets)))
        pieces.append(np.frombuffer(pixels, np.uint8))
        used += len(pieces[-1])
    return replace(joined(whole, moved), pixels=pa.py_buffer(np.concatenate(pieces)))


def without_frames(batch: Batch) -> Batch:
    """Return `batch` without decoded images."""
    here = [name for name in (OFFSET, HEIGHT, WIDTH) if name in batch.rows.column_names]
    return replace(batch, rows=batch.rows.drop_columns(here), pixels=None)


def frames_of(batch: Batch, pixel_type: PixelType) -> list[np.ndarray]:
    """Return the decoded images of a batch, [height, width, channels] each, as views of its memory."""
    assert batch.pixels is not None
    memory = np.frombuffer(batch.pixels, np.uint8)
    found = []
    for offset, height, width in zip(*(batch.rows[name].to_pylist() for name in (OFFSET, HEIGHT, WIDTH)), strict=True):
        shape = pixel_type.shape(height, width)
        size = int(np.prod(shape)) * pixel_type.dtype.itemsize
        found.append(memory[offset : offset + size].view(pixel_type.dtype).reshape(shape))
    return found
