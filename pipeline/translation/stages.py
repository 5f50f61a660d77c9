"""Decode, translate, encode: three callables from a unit to a batch that can be published. They know no Ray."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from gan_models import translation_mode, with_winograd_trunk
from gan_models.pixels import from_uint8, pad_by_reflection, to_uint8
from pipeline import images, storage
from pipeline.bundles import open_bundle
from pipeline.config.translate import SizePolicy
from pipeline.engine.account import CHANGED, Batch, Rejected, keyless_set_aside
from pipeline.engine.plan import Unit
from pipeline.engine.watchdog import got_on
from pipeline.hardware import Trunk
from pipeline.selection import Selection
from pipeline.stores import SHARD, SourceChangedError, naming, read_rows, read_what_is_left
from pipeline.stores.features import without_features
from pipeline.stores.schema import image_array
from pipeline.translation.frames import frames_of, with_frames, without_frames

OWN_COLUMNS = ("source_key", "source_shard", "source_width", "source_height", "exif_orientation", "model")
"""Columns that translation adds; `image`, `width` and `height` are replaced."""


_LONGEST_PART = 255
"""Bytes of a file's or folder's name on most disks."""


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """All that decides, beside the weights, which pixels come out. Fixed before the first unit."""

    device: str
    precision: str
    compile: bool
    trunk: Trunk
    """How a ResNet's residual blocks convolve."""
    batch: int
    """Images that go through the generator at once; a smaller group is padded, so that the shape never changes."""


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
        rows, keyless = keyless_set_aside(rows)
        rejected += keyless
        skipped = unit.rows - len(rows) - len(rejected)
        good, decoded = list[int](), list[images.Decoded]()
        for i, value in enumerate(rows[self.column].to_pylist()):
            try:
                decoded.append(images.decode((value or {}).get("bytes") or b""))
                good.append(i)
            except images.BadImage as bad:
                key, shard = rows["key"][i].as_py(), rows[SHARD][i].as_py()
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
        self.multiple = loaded.generator_configs[chosen].size_multiple
        self.arithmetic = arithmetic
        self.network = prepare(loaded.generator(chosen), arithmetic)

    def __call__(self, batch: Batch) -> Batch:
        frames = list(frames_of(batch.rows))
        translated, faults = translate_frames(self.network, frames, self.multiple, self.arithmetic)
        good = [i for i in range(len(frames)) if i not in faults]
        rows = with_frames(batch.rows.take(pa.array(good, pa.int64())), [translated[i] for i in good])
        rejected = tuple(
            Rejected(batch.rows["key"][i].as_py(), batch.rows[SHARD][i].as_py(), "translate", "failed", faults[i])
            for i in sorted(faults)
        )
        return Batch(batch.unit, rows, batch.rejected + rejected, batch.skipped)


@dataclass(frozen=True)
class Encode:
    """Encode the translations and lay the rows out as they are published."""

    encoding: images.Encoding
    column: str
    keep_source: bool
    size: SizePolicy
    model: str
    """Fingerprint of the weights."""
    longest_file_name: int | None = None
    """Bytes that a name below data/ may have, where keys are to be names of files; a row whose key cannot be one is
    set aside."""

    def __call__(self, batch: Batch) -> Batch:
        extension = images.CODEC_EXTENSION[self.encoding.codec]
        if self.longest_file_name is not None:
            batch = with_file_names(batch, extension, self.longest_file_name)
        rows = batch.rows
        frames: Sequence[np.ndarray] = list(frames_of(rows))
        if self.size == "original":
            sizes = zip(rows["source_width"].to_pylist(), rows["source_height"].to_pylist(), strict=True)
            frames = [images.resize(f, width, height) for f, (width, height) in zip(frames, sizes, strict=True)]
        keys = rows["key"].to_pylist()
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


def with_file_names(batch: Batch, extension: str, longest: int) -> Batch:
    """The rows whose key can be a path below a folder, each key once; the others are set aside.

    `longest` is how many bytes the whole path below that folder may have.
    """
    good, rejected, seen = list[int](), list[Rejected](), set[str]()
    for i, key in enumerate(batch.rows["key"].to_pylist()):
        fault = _file_fault(key, extension, longest)
        reason = "unsupported name" if fault else "duplicate key"
        if fault or key in seen:
            shard = batch.rows[SHARD][i].as_py()
            rejected.append(Rejected(key, shard, "encode", reason, fault or "a row before it has this key"))
        else:
            good.append(i)
            seen.add(key)
    if not rejected:
        return batch
    return replace(batch, rows=batch.rows.take(pa.array(good, pa.int64())), rejected=(*batch.rejected, *rejected))


def _file_fault(key: str, extension: str, longest: int) -> str:
    """Why a key cannot be the name of a file; empty where it can."""
    try:
        storage.join("data", key)
        name = naming.file_name(key, extension).encode()
    except ValueError as error:  # UnicodeEncodeError as well
        return str(error)
    if max(map(len, name.split(b"/"))) > _LONGEST_PART:
        return f"a part of it, with its ending, is longer than {_LONGEST_PART} bytes, which no file's name may be"
    if len(name) > longest:
        return f"as a file it would have {len(name)} bytes below data/, where there is room for {longest}"
    return ""


def laid_out(
    rows: pa.Table, column: str, pictures: pa.StructArray, shapes: Sequence[tuple[int, ...]], model: str | None
) -> pa.Table:
    """Rows as they are published: `pictures` of these shapes as `image`, in place of `column` and of what was decoded.

    `model` is the fingerprint of the weights that made them; None where they are the source's own.
    """
    # Each name once: dropping a column twice would take its neighbour, too.
    replaced = {column, "image", "width", "height"}
    rows = without_features(without_frames(rows), replaced)
    # Not by renaming, which forgets what the schema says of all columns.
    rows = rows.set_column(rows.column_names.index(SHARD), "source_shard", rows[SHARD])
    rows = rows.drop_columns([name for name in rows.column_names if name in replaced]).add_column(0, "image", pictures)
    rows = rows.append_column("width", pa.array([shape[1] for shape in shapes], pa.int32()))
    rows = rows.append_column("height", pa.array([shape[0] for shape in shapes], pa.int32()))
    rows = rows.append_column("source_key", rows["key"])
    return rows.append_column("model", pa.array([model] * len(rows), pa.string()))


def prepare(generator: nn.Module, arithmetic: Arithmetic) -> nn.Module:
    """`generator` as it translates: on its device, in its precision, compiled where that is asked for."""
    dtype = torch.bfloat16 if arithmetic.precision == "bf16" else torch.float32
    network = translation_mode(generator).to(arithmetic.device, dtype)
    if arithmetic.trunk == "winograd":
        network = with_winograd_trunk(network)
    if arithmetic.device == "cuda" or arithmetic.compile:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return torch.compile(network, dynamic=False) if arithmetic.compile else network  # type: ignore[return-value]


def translate_frames(
    network: nn.Module, frames: Sequence[np.ndarray], multiple: int, arithmetic: Arithmetic
) -> tuple[dict[int, np.ndarray], dict[int, str]]:
    """The translation of each frame (uint8 [height, width, 3], any sizes), and what went wrong with the others.

    Frames of one size go through the network together, always `arithmetic.batch` of them (the last group is padded),
    so that no image's pixels depend on which others there are. A group that fails is halved down to the frame at
    fault, which costs that frame alone.
    """
    translated: dict[int, np.ndarray] = {}
    faults: dict[int, str] = {}

    def attempt(group: Sequence[int]) -> None:
        try:
            results = _forward(network, [frames[i] for i in group], multiple, arithmetic)
        except Exception as error:  # becomes the quarantine row of the frame at fault
            if len(group) > 1:
                attempt(group[: len(group) // 2])
                attempt(group[len(group) // 2 :])
            else:
                faults[group[0]] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        else:
            translated.update(zip(group, results, strict=True))
        got_on()

    for group in _groups([f.shape for f in frames], arithmetic.batch):
        attempt(group)
    return translated, faults


def _groups(shapes: Sequence[tuple[int, ...]], size: int) -> Iterator[list[int]]:
    """Positions of frames of equal shape, at most `size` at a time, in order."""
    order = sorted(range(len(shapes)), key=lambda i: (shapes[i], i))
    for _, same in itertools.groupby(order, key=lambda i: shapes[i]):
        positions = list(same)
        for first in range(0, len(positions), size):
            yield positions[first : first + size]


def _forward(
    network: Callable[[torch.Tensor], torch.Tensor], frames: Sequence[np.ndarray], multiple: int, arithmetic: Arithmetic
) -> list[np.ndarray]:
    height, width = frames[0].shape[:2]
    padded = [*frames, *[frames[-1]] * (arithmetic.batch - len(frames))]
    pixels_NCHW = torch.from_numpy(np.stack(padded)).permute(0, 3, 1, 2)
    dtype = torch.bfloat16 if arithmetic.precision == "bf16" else torch.float32
    with torch.inference_mode():
        input_NCHW = pad_by_reflection(from_uint8(pixels_NCHW.to(arithmetic.device)), multiple).to(dtype)
        output_NCHW = network(input_NCHW)[: len(frames), :, :height, :width]
        output_NHWC = to_uint8(output_NCHW.float()).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return list(output_NHWC)
