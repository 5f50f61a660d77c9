"""Stages of a translation: three callables from a unit to a batch that can be published.

They do not import Ray, and of their processes only those that hold a model import torch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from pipeline import images, storage
from pipeline.cluster.watchdog import made_progress
from pipeline.engine.publishing.reading import read_unit
from pipeline.engine.records.account import Batch, Quarantined
from pipeline.engine.records.units import Unit
from pipeline.models.arithmetic import NOTHING_MEASURED, Arithmetic, Figures
from pipeline.stores import SHARD
from pipeline.stores.forms import naming
from pipeline.stores.selection import Selection
from pipeline.stores.tables.features import without_features
from pipeline.stores.tables.schema import image_array
from pipeline.translate.columns import SOURCE_IMAGE, renamed
from pipeline.translate.config import SizePolicy
from pipeline.translate.frames import HEIGHT, WIDTH, frames_of, with_frames, without_frames

_LONGEST_PART = 255
"""Bytes that the name of a file or folder may have on most disks."""


@dataclass(frozen=True)
class Decode:
    """Stage that reads a unit and decodes the column to translate, resized to `size` x `size` where that is given."""

    column: str
    size: int | None
    columns: tuple[str, ...] | None = None
    """Other columns to read; None for all."""
    selection: Selection | None = None
    """Selection of the wanted rows, by their key; the others are skipped. None for all."""
    without_changed: pa.Schema | None = None
    """Source's schema, where inputs that are gone or have changed are quarantined; None where they fail the unit."""
    renames: Mapping[str, str] = field(default_factory=dict)
    """New names for columns of the source."""

    def __call__(self, unit: Unit) -> Batch:
        rows, quarantined, skipped = read_unit(
            unit,
            None if self.columns is None else (self.column, *self.columns),
            wants=self.selection.wants if self.selection else None,
            without_changed=self.without_changed,
        )
        rows = renamed(rows, self.renames)
        good, decoded = list[int](), list[images.Decoded]()
        for i, value in enumerate(rows[self.column].to_pylist()):
            try:
                decoded.append(images.decode(images.encoded_in(value)))
                good.append(i)
            except images.BadImage as bad:
                key, shard = rows["key"][i].as_py(), rows[SHARD][i].as_py()
                quarantined.append(Quarantined(key, shard, "decode", bad.reason, str(bad)))
            made_progress()
        rows = rows.take(pa.array(good, pa.int64()))
        frames = [d.pixels for d in decoded]
        rows = rows.append_column("source_height", pa.array([f.shape[0] for f in frames], pa.int32()))
        rows = rows.append_column("source_width", pa.array([f.shape[1] for f in frames], pa.int32()))
        rows = rows.append_column("exif_orientation", pa.array([d.orientation for d in decoded], pa.int8()))
        if self.size is not None:
            frames = [images.resize(f, self.size, self.size) for f in frames]
        return Batch(unit, with_frames(rows, frames), tuple(quarantined), skipped)


class Translate:
    """Stage that runs a bundle's generator on the frames of a unit."""

    def __init__(
        self, bundle: str, direction: str | None, arithmetic: Arithmetic, figures: Figures = NOTHING_MEASURED
    ) -> None:
        """Load the model from a bundle's URL.

        It warns where the model takes much longer than `figures` say. Raises ValueError where this device lacks a part
        of the arithmetic, and CannotCompileError where the compiler does.
        """
        import torch

        from pipeline.models import measuring
        from pipeline.models.bundles import open_bundle
        from pipeline.models.translator import Translator
        from pipeline.translate.pace import Pace

        if arithmetic.threads is not None:
            torch.set_num_threads(arithmetic.threads)
        loaded = open_bundle(bundle, direction=direction)
        chosen = direction or loaded.directions[0]
        config = loaded.generator_configs[chosen]
        measuring.forms(
            arithmetic.device, kind=config.kind, precision=arithmetic.precision, trunk=arithmetic.trunk
        )  # raises where the machine is another than that which the output began on, and lacks a form
        self.translator = Translator.of(loaded.generator(chosen), config, arithmetic)
        self.pace = Pace(arithmetic, figures)

    def __call__(self, batch: Batch) -> Batch:
        frames = list(frames_of(batch.rows, self.translator.takes))
        began_s = time.monotonic()
        translated, faults = self.translator(frames)
        self.pace.note([frame.shape[:2] for frame in frames], time.monotonic() - began_s)
        batch = _without(batch, faults, "translate", "failed")
        return replace(batch, rows=with_frames(batch.rows, [translated[i] for i in sorted(translated)]))


@dataclass(frozen=True)
class Encode:
    """Stage that encodes the translations and lays the rows out for publishing."""

    encoding: images.Encoding
    column: str
    keep_source: bool
    size: SizePolicy
    model: str
    """Fingerprint of the weights."""
    longest_file_name: int | None = None
    """Bytes that a name below data/ may have, where keys become file names; rows whose keys cannot are quarantined."""

    def __call__(self, batch: Batch) -> Batch:
        extension = images.CODECS[self.encoding.codec].extension
        if self.longest_file_name is not None:
            batch = with_file_names(batch, extension, self.longest_file_name)
        batch = self._with_sizes_that_fit(batch)
        rows = batch.rows
        frames: Sequence[np.ndarray] = list(frames_of(rows, images.RGB))
        if self.size == "original":
            sizes = zip(rows["source_width"].to_pylist(), rows["source_height"].to_pylist(), strict=True)
            frames = [images.resize(f, width, height) for f, (width, height) in zip(frames, sizes, strict=True)]
        keys = rows["key"].to_pylist()
        names = [f"{key.rsplit('/', 1)[-1]}.{extension}" for key in keys]
        source = rows[self.column]
        encoded = list[bytes]()
        for frame in frames:
            encoded.append(images.encode(frame, self.encoding))
            made_progress()
        pictures = image_array(encoded, names)
        rows = laid_out(rows, self.column, pictures, [f.shape for f in frames], self.model)
        if self.keep_source:
            rows = rows.append_column(SOURCE_IMAGE, source)
        return Batch(batch.unit, rows, batch.quarantined, batch.skipped)

    def _with_sizes_that_fit(self, batch: Batch) -> Batch:
        """Quarantine the rows whose published size is too large for the codec."""
        names = ("source_width", "source_height") if self.size == "original" else (WIDTH, HEIGHT)
        faults = dict[int, str]()
        for i, (width, height) in enumerate(zip(*(batch.rows[name].to_pylist() for name in names), strict=True)):
            if fault := images.misfit(width, height, self.encoding.codec):
                faults[i] = fault
        return _without(batch, faults, "encode", "too large")


def with_file_names(batch: Batch, extension: str, longest: int) -> Batch:
    """Keep the rows whose key can be a path below a folder, each key once; quarantine the others.

    `longest` is the number of bytes that the whole path below that folder may have.
    """
    faults = ((i, _file_fault(key, extension, longest)) for i, key in enumerate(batch.rows["key"].to_pylist()))
    batch = _without(batch, {i: fault for i, fault in faults if fault}, "encode", "unsupported name")
    keys = batch.rows["key"].to_pylist()
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    doubled = {i: "a row before it has this key" for i, key in enumerate(keys) if first[key] != i}
    return _without(batch, doubled, "encode", "duplicate key")


def _without(batch: Batch, faults: Mapping[int, str], stage: str, reason: str) -> Batch:
    """Return `batch` with the rows at these positions quarantined, each with its message."""
    if not faults:
        return batch
    keys, shards = batch.rows["key"], batch.rows[SHARD]
    quarantined = [Quarantined(keys[i].as_py(), shards[i].as_py(), stage, reason, faults[i]) for i in sorted(faults)]
    good = pa.array([i for i in range(len(batch.rows)) if i not in faults], pa.int64())
    return replace(batch, rows=batch.rows.take(good), quarantined=(*batch.quarantined, *quarantined))


def _file_fault(key: str, extension: str, longest: int) -> str:
    """Return why a key cannot be a file name; empty where it can."""
    try:
        storage.join("data", key)
        name = naming.file_name(key, extension).encode()
    except ValueError as error:  # includes UnicodeEncodeError
        return str(error)
    if max(map(len, name.split(b"/"))) > _LONGEST_PART:
        return f"a part of it, with its ending, is longer than {_LONGEST_PART} bytes, which no file's name may be"
    if len(name) > longest:
        return f"as a file it would have {len(name)} bytes below data/, where there is room for {longest}"
    return ""


def laid_out(
    rows: pa.Table, column: str, pictures: pa.StructArray, shapes: Sequence[tuple[int, ...]], model: str | None
) -> pa.Table:
    """Return rows as they are published: `pictures` as `image`, in place of `column` and of decoded frames.

    `shapes` are those of the pictures. `model` is the fingerprint of the weights that made them; None where they are
    the source's own.
    """
    # A set, because dropping a column twice would drop its neighbour, too.
    replaced = {column, "image", "width", "height"}
    rows = without_features(without_frames(rows), replaced)
    # Not renamed, because renaming loses the schema's metadata.
    rows = rows.set_column(rows.column_names.index(SHARD), "source_shard", rows[SHARD])
    rows = rows.drop_columns([name for name in rows.column_names if name in replaced]).add_column(0, "image", pictures)
    rows = rows.append_column("width", pa.array([shape[1] for shape in shapes], pa.int32()))
    rows = rows.append_column("height", pa.array([shape[0] for shape in shapes], pa.int32()))
    rows = rows.append_column("source_key", rows["key"])
    return rows.append_column("model", pa.array([model] * len(rows), pa.string()))
