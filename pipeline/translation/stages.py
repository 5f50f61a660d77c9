"""Stages of a translation: three callables from a unit to a batch that can be published.

They do not import Ray, and of their processes only those that hold a model import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from pipeline import images
from pipeline.cluster import memory
from pipeline.cluster.watchdog import made_progress
from pipeline.engine.publishing.reading import read_unit
from pipeline.engine.records.account import Batch, Filtered, Quarantined
from pipeline.engine.records.units import Unit
from pipeline.geometry.columns import followed, moves_of
from pipeline.geometry.kinds import NO_GEOMETRY, Geometry
from pipeline.models.arithmetic import NOTHING_MEASURED, Arithmetic, Figures
from pipeline.scores.judges import NOT_JUDGED, Judged, Judges
from pipeline.scores.keep import kept
from pipeline.stores import SHARD
from pipeline.stores.forms import naming
from pipeline.stores.selection import Selection
from pipeline.stores.tables.features import without_features
from pipeline.stores.tables.schema import INTERNAL, image_column
from pipeline.translation.columns import SOURCE_IMAGE, renamed
from pipeline.translation.frames import HEIGHT, WIDTH, Frames, frames_of, without_frames
from pipeline.translation.options import SizePolicy


@dataclass(frozen=True)
class Decode:
    """Stage that reads a unit, and decodes the column to translate where all of its images may be held at once."""

    column: str
    size: int | None
    """Side, in pixels, that the images are resized to; None for their own size."""
    columns: tuple[str, ...] | None = None
    """Other columns to read; None for all."""
    selection: Selection | None = None
    """Selection of the wanted rows, by their key; the others are skipped. None for all."""
    without_changed: pa.Schema | None = None
    """Source's schema, where inputs that are gone or have changed are quarantined; None where they fail the unit."""
    renames: Mapping[str, str] = field(default_factory=dict)
    """New names for columns of the source."""
    keep_source: bool = False
    """Keep the encoded images of rows that are decoded."""
    geometry: Geometry = NO_GEOMETRY
    """Columns that follow their picture."""
    takes: images.PixelType = images.RGB
    """Type of the decoded images' pixels."""
    reading: images.Reading = images.Reading()
    pixel_bytes: int = images.RGB.bytes
    """Bytes that a pixel takes at most on its way, decoded or translated."""
    most: int = 512_000_000
    """Bytes of decoded images that travel to the next stage; a unit with more travels encoded."""

    def __call__(self, unit: Unit) -> Batch:
        batch = self.read(unit)
        size = sum(self.sizes(batch))
        return self._decoded(batch, size) if size <= self.most else batch

    def read(self, unit: Unit) -> Batch:
        """Read a unit, its images encoded."""
        rows, quarantined, skipped = read_unit(
            unit,
            None if self.columns is None else (self.column, *self.columns),
            wants=self.selection.wants if self.selection else None,
            without_changed=self.without_changed,
        )
        return Batch(unit, renamed(rows, self.renames), tuple(quarantined), skipped)

    def sizes(self, batch: Batch) -> list[int]:
        """Return the bytes of each row's decoded image, by its header, which is read from bytes that are here."""
        if self.size is not None:
            return [self.size**2 * self.pixel_bytes] * len(batch.rows)
        sizes = [images.decoded_bytes(data, self.takes) if data else 0 for data in _encoded(batch.rows, self.column)]
        return [size * self.pixel_bytes // self.takes.bytes for size in sizes]

    def decode(self, batch: Batch) -> Batch:
        """Decode the images of a batch into one piece of memory; quarantine the rows that cannot be decoded."""
        return self._decoded(batch, sum(self.sizes(batch)))

    def _decoded(self, batch: Batch, size: int) -> Batch:
        """Do what `decode` does, with `size` bytes for the images."""
        frames = Frames(size)
        room = (lambda: frames.room) if self.size is None else (lambda: None)

        def take(found: images.Decoded) -> None:
            if self.size is None:
                frames.add(found.pixels)
            else:
                place = frames.place(self.takes.shape(self.size, self.size), self.takes.dtype)
                images.resize(found.pixels, self.size, self.size, place)

        batch = frames.of(self._each_decoded(batch, room, take))
        if self.geometry.columns:
            rows, unfit = followed(batch.rows, self.geometry, moves_of(batch.rows, self.geometry, self.size))
            batch = _without(replace(batch, rows=rows), unfit, "decode")
        return batch if self.keep_source else replace(batch, rows=batch.rows.drop_columns(self.column))

    def prove(self, batch: Batch) -> Batch:
        """Decode the images of a batch one after the other, keep none, and quarantine the rows without one."""
        return self._each_decoded(batch, lambda: None, lambda found: None)

    def _each_decoded(
        self, batch: Batch, room: Callable[[], np.ndarray | None], take: Callable[[images.Decoded], None]
    ) -> Batch:
        """Decode each image into `room`, and hand it to `take`; return the rows with what their files say of them."""
        faults, said = dict[int, tuple[str, str]](), list[tuple[int, int, int]]()
        for i, data in enumerate(_encoded(batch.rows, self.column)):
            try:
                held = images.encoded_in(batch.rows[self.column][i].as_py()) if data is None else data
                how = self.reading
                found = images.decode(held, room=room(), wanted=self.takes, icc=how.icc, pages=how.pages)
            except images.BadImage as bad:
                faults[i] = (bad.reason, str(bad))
            else:
                take(found)
                said.append((*found.pixels.shape[:2], found.orientation))
                del found  # otherwise it would be held until the next one is decoded
            made_progress()
        batch = _without(batch, faults, "decode")
        rows = batch.rows
        for at, (name, kind) in enumerate(SAID.items()):
            rows = rows.append_column(name, pa.array([each[at] for each in said], kind))
        return replace(batch, rows=rows)


SAID = {"source_height": pa.int32(), "source_width": pa.int32(), "exif_orientation": pa.int8()}
"""Columns with what an image's file says of it."""


def _encoded(rows: pa.Table, column: str) -> Iterator[memoryview | None]:
    """Yield the encoded images of a column, in the table's memory; None where a cell has none."""
    for chunk in rows[column].chunks:
        for cell in chunk:
            data = cell["bytes"] if cell.is_valid else None
            yield memoryview(data.as_buffer()) if data is not None and data.is_valid else None


class Translate:
    """Stage that runs a bundle's generator on the frames of a unit."""

    def __init__(
        self,
        bundle: str,
        direction: str | None,
        arithmetic: Arithmetic,
        figures: Figures = NOTHING_MEASURED,
        judged: Judged = NOT_JUDGED,
        sha256: str = "",
    ) -> None:
        """Load the model from a bundle's URL, and the networks that judge.

        It warns where the model takes much longer than `figures` say. Raises ValueError where the model has not this
        fingerprint, if one is given, or this device lacks a part of the arithmetic, and CannotCompileError where the
        compiler does.
        """
        import torch

        from pipeline.models import measuring
        from pipeline.models.bundles import open_generator
        from pipeline.models.translator import Translator
        from pipeline.translation.pace import DEVICE, Pace

        if arithmetic.threads is not None:
            torch.set_num_threads(arithmetic.threads)
            memory.keep_freed()
        loaded = open_generator(bundle, direction, discriminators="realism" in judged.scores)
        if sha256 and loaded.sha256 != sha256:
            raise ValueError(f"{bundle}: the model here is another one than that which the job was planned with")
        chosen = direction or loaded.directions[0]
        config = loaded.generator_configs[chosen]
        measuring.forms(
            arithmetic.device, kind=config.kind, precision=arithmetic.precision, trunk=arithmetic.trunk
        )  # raises where the machine is another than that which the output began on, and lacks a form
        self.translator = Translator.of(loaded.generator(chosen), config, arithmetic)
        self.pace, self.device = Pace(arithmetic, figures, config.flop), DEVICE
        self.judges: Judges | None = None
        if judged.scores:
            self.judges = Judges(bundle, loaded, chosen, judged.scores, arithmetic, judged.agreement_model)
        self.keep_if = judged.keep_if

    def __call__(self, batch: Batch) -> Batch:
        frames, gives = frames_of(batch, self.translator.takes), self.translator.gives
        shapes = [gives.shape(*frame.shape[:2]) for frame in frames]
        made = Frames(sum(int(np.prod(shape)) for shape in shapes) * gives.dtype.itemsize)
        places = [made.place(shape, gives.dtype) for shape in shapes]
        with self.pace.of([frame.shape[:2] for frame in frames]):
            translated, faults = self.translator(frames, into=places)
        scores = dict[str, np.ndarray]()
        if self.judges:
            with self.device.running():
                scores = self.judges(frames, translated)
        batch = _scored(made.of(batch), scores)
        batch = _without(batch, {i: ("failed", fault) for i, fault in faults.items()}, "translate")
        return _kept(batch, self.keep_if, list(scores)) if self.keep_if else batch


def _scored(batch: Batch, scores: Mapping[str, np.ndarray]) -> Batch:
    rows = batch.rows
    for name, values in scores.items():
        rows = rows.append_column(name, pa.array(values, pa.float64(), mask=np.isnan(values)))
    return replace(batch, rows=rows)


def _kept(batch: Batch, condition: str, names: Sequence[str]) -> Batch:
    """Skip the rows for which a condition on their scores is not true."""
    scores = {name: batch.rows[name].to_numpy() for name in names}
    keep = kept(condition, scores)
    filtered = [
        Filtered(row["key"], row[SHARD], tuple((name, row[name]) for name in sorted(names)))
        for row in batch.rows.select(["key", SHARD, *names]).filter(pa.array(~keep)).to_pylist()
    ]
    return replace(
        batch,
        rows=batch.rows.filter(pa.array(keep)),
        skipped=batch.skipped + len(filtered),
        filtered=(*batch.filtered, *filtered),
    )


@dataclass(frozen=True)
class Encode:
    """Stage that encodes the translations and lays the rows out for publishing."""

    encoding: images.Encoding
    column: str
    keep_source: bool
    size: SizePolicy
    model: str
    """Fingerprint of the weights."""
    gives: images.PixelType = images.RGB
    """Type of the translations' pixels."""
    longest_file_name: int | None = None
    """Bytes that a name below data/ may have, where keys become file names; rows whose keys cannot are quarantined."""

    def __call__(self, batch: Batch) -> Batch:
        return self.lay_out(batch if batch.pixels is None else self.encode(batch))

    def encode(self, batch: Batch) -> Batch:
        """Encode the images of a batch; quarantine the rows that no file of the output can hold."""
        if self.longest_file_name is not None:
            batch = with_file_names(batch, self._extension, self.longest_file_name)
        batch = self._with_sizes_that_fit(batch)
        rows = batch.rows
        sizes = list(zip(*(rows[name].to_pylist() for name in self._sizes), strict=True))
        encoded = list[bytes]()
        for frame, (width, height) in zip(frames_of(batch, self.gives), sizes, strict=True):
            encoded.append(images.encode(images.resize(frame, width, height), self.encoding))
            made_progress()
        names = [f"{key.rsplit('/', 1)[-1]}.{self._extension}" for key in rows["key"].to_pylist()]
        rows = without_frames(batch).rows.append_column(_PICTURE, image_column(encoded, names))
        for at, name in enumerate(_PICTURE_SIZE):
            rows = rows.append_column(name, pa.array([size[at] for size in sizes], pa.int32()))
        return replace(batch, rows=rows, pixels=None)

    def lay_out(self, batch: Batch) -> Batch:
        """Return the encoded images as rows that can be published."""
        if self.longest_file_name is not None:
            batch = with_each_key_once(batch)
        rows, pictures = batch.rows, batch.rows[_PICTURE]
        sizes = [rows[name] for name in _PICTURE_SIZE]
        source = rows[self.column] if self.keep_source else None
        rows = laid_out(rows.drop_columns([_PICTURE, *_PICTURE_SIZE]), self.column, pictures, sizes, self.model)
        return replace(batch, rows=rows if source is None else rows.append_column(SOURCE_IMAGE, source))

    @property
    def _extension(self) -> str:
        return images.CODECS[self.encoding.codec].extension

    @property
    def _sizes(self) -> tuple[str, str]:
        """Return the names of the columns with the width and the height of the published images."""
        return ("source_width", "source_height") if self.size == "original" else (WIDTH, HEIGHT)

    def _with_sizes_that_fit(self, batch: Batch) -> Batch:
        """Quarantine the rows whose published size is too large for the codec."""
        faults = dict[int, tuple[str, str]]()
        for i, (width, height) in enumerate(zip(*(batch.rows[n].to_pylist() for n in self._sizes), strict=True)):
            if fault := images.misfit(width, height, self.encoding.codec):
                faults[i] = ("too large", fault)
        return _without(batch, faults, "encode")


_PICTURE = f"{INTERNAL}picture"
_PICTURE_SIZE = (f"{INTERNAL}picture_width", f"{INTERNAL}picture_height")
"""Columns of encoded translations, until the rows are laid out."""


def with_file_names(batch: Batch, extension: str, longest: int) -> Batch:
    """Keep the rows whose key can be a path below a folder; quarantine the others.

    `longest` is the number of bytes that the whole path below that folder may have.
    """
    faults = ((i, naming.name_fault(key, extension, longest)) for i, key in enumerate(batch.rows["key"].to_pylist()))
    return _without(batch, {i: ("unsupported name", fault) for i, fault in faults if fault}, "encode")


def with_each_key_once(batch: Batch) -> Batch:
    """Keep the first row of each key; quarantine the others."""
    keys = batch.rows["key"].to_pylist()
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    why = ("duplicate key", "a row before it has this key")
    return _without(batch, {i: why for i, key in enumerate(keys) if first[key] != i}, "encode")


def _without(batch: Batch, faults: Mapping[int, tuple[str, str]], stage: str) -> Batch:
    """Return `batch` with the rows at these positions quarantined, each with its reason and message."""
    if not faults:
        return batch
    keys, shards = batch.rows["key"], batch.rows[SHARD]
    quarantined = [Quarantined(keys[i].as_py(), shards[i].as_py(), stage, *faults[i]) for i in sorted(faults)]
    good = pa.array([i not in faults for i in range(len(batch.rows))], pa.bool_())
    return replace(batch, rows=batch.rows.filter(good), quarantined=(*batch.quarantined, *quarantined))


def laid_out(
    rows: pa.Table, column: str, pictures: pa.ChunkedArray, size: Sequence[pa.ChunkedArray], model: str | None
) -> pa.Table:
    """Return rows as they are published: `pictures` as `image`, in place of `column`.

    `size` are the widths and the heights of the pictures. `model` is the fingerprint of the weights that made them;
    None where they are the source's own.
    """
    # A set, because dropping a column twice would drop its neighbour, too.
    replaced = {column, "image", "width", "height"}
    rows = without_features(rows, replaced)
    # Not renamed, because renaming loses the schema's metadata.
    rows = rows.set_column(rows.column_names.index(SHARD), "source_shard", rows[SHARD])
    rows = rows.drop_columns([name for name in rows.column_names if name in replaced]).add_column(0, "image", pictures)
    rows = rows.append_column("width", size[0]).append_column("height", size[1])
    rows = rows.append_column("source_key", rows["key"])
    return rows.append_column("model", pa.array([model] * len(rows), pa.string()))
