"""Decode, translate, encode: three callables from a unit to a batch that can be published. They know no Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch

from pipeline import images, storage
from pipeline.bundles import open_bundle
from pipeline.config.translate import SizePolicy
from pipeline.engine.account import CHANGED, Batch, Rejected
from pipeline.engine.plan import Unit
from pipeline.engine.watchdog import got_on
from pipeline.selection import Selection
from pipeline.stores import SourceChangedError, read_rows, read_what_is_left
from pipeline.stores.schema import image_array
from pipeline.translation.frames import HEIGHT, WIDTH, frames_of, with_frames, without_frames
from pipeline.translation.generator import Arithmetic, prepare, translate_frames

OWN_COLUMNS = ("source_key", "source_shard", "source_width", "source_height", "exif_orientation", "model")
"""Columns that translation adds; `image`, `width` and `height` are replaced."""


_LONGEST_NAME = 250
"""Bytes of a file's name on most disks, with five kept for the extension."""


@dataclass(frozen=True)
class Decode:
    """Read a unit and decode the column to translate, resized to `size` x `size` where that is given."""

    column: str
    size: int | None
    columns: tuple[str, ...] | None = None
    """Which other columns are read; all where none are named."""
    selection: Selection | None = None
    """Which rows are wanted, by their key; the others are skipped."""
    without_changed: pa.Schema | None = None
    """The source's columns, where inputs that are gone or have changed are to be set aside; else they fail the unit."""

    def __call__(self, unit: Unit) -> Batch:
        rows, rejected = self._read(unit)
        skipped = unit.rows - len(rows) - len(rejected)
        good, decoded = list[int](), list[images.Decoded]()
        for i, value in enumerate(rows[self.column].to_pylist()):
            try:
                decoded.append(images.decode((value or {}).get("bytes") or b""))
                good.append(i)
            except images.BadImage as bad:
                key, shard = rows["key"][i].as_py(), rows["source_shard"][i].as_py()
                rejected.append(Rejected(key, shard, "decode", bad.reason, str(bad)))
            got_on()
        rows = rows.take(pa.array(good, pa.int64()))
        frames = [d.pixels for d in decoded]
        rows = rows.append_column("source_height", pa.array([f.shape[0] for f in frames], pa.int32()))
        rows = rows.append_column("source_width", pa.array([f.shape[1] for f in frames], pa.int32()))
        rows = rows.append_column("exif_orientation", pa.array([d.orientation for d in decoded], pa.int8()))
        if self.size is not None:
            frames = [images.resize(f, self.size, self.size) for f in frames]
        return Batch(unit, with_frames(rows, frames), tuple(rejected), skipped)

    def _read(self, unit: Unit) -> tuple[pa.Table, list[Rejected]]:
        columns = None if self.columns is None else (self.column, *self.columns)
        wants = self.selection.wants if self.selection else None
        if self.without_changed is not None:
            rows, lost = read_what_is_left(unit.ranges, self.without_changed, columns, wants=wants)
            return rows, [Rejected(key, of.shard, "read", CHANGED, why) for key, of, why in lost]
        try:
            return read_rows(unit.ranges, columns, wants=wants), []
        except SourceChangedError as error:
            raise SourceChangedError(f"{error}; --on_changed set_aside goes on without it") from error


class Translate:
    """The generator of a bundle over the frames of a unit."""

    def __init__(self, bundle: str, direction: str | None, arithmetic: Arithmetic, threads: int | None = None) -> None:
        """Load the model from a bundle's URL. `threads` are those of a CPU's arithmetic (all cores by default)."""
        if arithmetic.device == "cpu" and threads is not None:
            torch.set_num_threads(threads)
        loaded = open_bundle(bundle, direction=direction)
        chosen = direction or loaded.directions[0]
        config = loaded.generator_configs[chosen]
        self.multiple, self.least = config.size_multiple, config.least_size
        self.arithmetic = arithmetic
        self.network = prepare(loaded.generator(chosen), arithmetic)

    def __call__(self, batch: Batch) -> Batch:
        frames = list(frames_of(batch.rows))
        translated, faults = translate_frames(self.network, frames, self.multiple, self.arithmetic, least=self.least)
        batch = _without(batch, faults, "translate", "failed")
        return replace(batch, rows=with_frames(batch.rows, [translated[i] for i in sorted(translated)]))


@dataclass(frozen=True)
class Encode:
    """Encode the translations and lay the rows out as they are published."""

    encoding: images.Encoding
    column: str
    keep_source: bool
    size: SizePolicy
    model: str
    """Fingerprint of the weights."""
    as_files: bool = False
    """Whether keys are to be names of files; a row whose key cannot be one is set aside."""

    def __call__(self, batch: Batch) -> Batch:
        if self.as_files:
            batch = with_file_names(batch)
        batch = self._with_sizes_that_fit(batch)
        rows = batch.rows
        frames: Sequence[np.ndarray] = list(frames_of(rows))
        if self.size == "original":
            sizes = zip(rows["source_width"].to_pylist(), rows["source_height"].to_pylist(), strict=True)
            frames = [images.resize(f, width, height) for f, (width, height) in zip(frames, sizes, strict=True)]
        keys = rows["key"].to_pylist()
        extension = images.CODEC_EXTENSION[self.encoding.codec]
        names = [f"{key.rsplit('/', 1)[-1]}.{extension}" for key in keys]
        source = rows[self.column]
        encoded = list[bytes]()
        for frame in frames:
            encoded.append(images.encode(frame, self.encoding))
            got_on()
        pictures = image_array(encoded, names)
        rows = laid_out(rows, self.column, pictures, [f.shape for f in frames], self.model)
        if self.keep_source:
            rows = rows.append_column("source_image", source)
        return Batch(batch.unit, rows, batch.rejected, batch.skipped)

    def _with_sizes_that_fit(self, batch: Batch) -> Batch:
        """The rows that the codec can hold at the size at which they are published; the others are set aside."""
        names = ("source_width", "source_height") if self.size == "original" else (WIDTH, HEIGHT)
        faults = dict[int, str]()
        for i, (width, height) in enumerate(zip(*(batch.rows[name].to_pylist() for name in names), strict=True)):
            if fault := images.misfit(width, height, self.encoding.codec):
                faults[i] = fault
        return _without(batch, faults, "encode", "too large")


def with_file_names(batch: Batch) -> Batch:
    """The rows whose key can be a path below a folder; the others are set aside."""
    faults = dict[int, str]()
    for i, key in enumerate(batch.rows["key"].to_pylist()):
        try:
            storage.join("data", key)
            if max(map(len, key.encode().split(b"/"))) > _LONGEST_NAME:
                raise ValueError(f"a part of it is longer than {_LONGEST_NAME} bytes, which no file's name may be")
        except ValueError as error:
            faults[i] = str(error)
    return _without(batch, faults, "encode", "unsupported name")


def _without(batch: Batch, faults: Mapping[int, str], stage: str, reason: str) -> Batch:
    """`batch` with the rows at these positions set aside, each with its message."""
    if not faults:
        return batch
    keys, shards = batch.rows["key"], batch.rows["source_shard"]
    rejected = [Rejected(keys[i].as_py(), shards[i].as_py(), stage, reason, faults[i]) for i in sorted(faults)]
    good = pa.array([i for i in range(len(batch.rows)) if i not in faults], pa.int64())
    return replace(batch, rows=batch.rows.take(good), rejected=(*batch.rejected, *rejected))


def laid_out(
    rows: pa.Table, column: str, pictures: pa.StructArray, shapes: Sequence[tuple[int, ...]], model: str | None
) -> pa.Table:
    """Rows as they are published: `pictures` of these shapes as `image`, in place of `column` and of what was decoded.

    `model` is the fingerprint of the weights that made them; None where they are the source's own.
    """
    # Each name once: dropping a column twice would take its neighbour, too.
    replaced = {column, "image", "width", "height"}
    rows = without_frames(rows)
    rows = rows.drop_columns([name for name in rows.column_names if name in replaced]).add_column(0, "image", pictures)
    rows = rows.append_column("width", pa.array([shape[1] for shape in shapes], pa.int32()))
    rows = rows.append_column("height", pa.array([shape[0] for shape in shapes], pa.int32()))
    rows = rows.append_column("source_key", rows["key"])
    return rows.append_column("model", pa.array([model] * len(rows), pa.string()))
