"""Rows of a unit, laid out as those of a store: every image is decoded once to prove that it can be."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import images
from pipeline.cluster.watchdog import made_progress
from pipeline.engine.records.account import Batch, Quarantined, noted, notes_together
from pipeline.pack.config import Crop, Layout
from pipeline.pack.pages import ENDING, PAGE, lossless, page_key, spread
from pipeline.stores import SHARD, image_columns
from pipeline.stores.forms import naming
from pipeline.stores.forms.trees import COLUMNS
from pipeline.stores.tables.features import features_of, with_features, without_features
from pipeline.stores.tables.schema import image_column

STAGE = "pack"


@dataclass(frozen=True)
class Shape:
    """Size that images get."""

    resize: tuple[int, ...]
    """Length of the shorter side, or width and height, in pixels."""
    crop: Crop
    encoding: images.Encoding

    def record(self) -> Mapping[str, Any]:
        """Return it as a recipe holds it."""
        return {"resize": list(self.resize), "crop": self.crop, "encoding": vars(self.encoding)}

    def shaped(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels [height, width, channels] at their new size."""
        height, width = pixels.shape[:2]
        if self.crop == "none":
            new_width, new_height = self.resize if len(self.resize) == 2 else _shorter(width, height, *self.resize)
            return images.resize(pixels, new_width, new_height)
        new_width, new_height = (*self.resize, *self.resize)[:2]
        scale = max(new_width / width, new_height / height)
        covers = max(new_width, round(width * scale)), max(new_height, round(height * scale))
        whole = images.resize(pixels, *covers)
        left, top = (covers[0] - new_width) // 2, (covers[1] - new_height) // 2
        return np.ascontiguousarray(whole[top : top + new_height, left : left + new_width])


def _shorter(width: int, height: int, side: int) -> tuple[int, int]:
    """Return width and height whose shorter one is `side`, with the aspect ratio kept."""
    scale = side / min(width, height)
    return max(side, round(width * scale)), max(side, round(height * scale))


class AtOnce(NamedTuple):
    """Images that are decoded at a time."""

    threads: int = 1
    decoded_bytes: int = 512_000_000
    """Bytes of all of them together, decoded, unless a single one has more."""


ONE = AtOnce()
_PART = 8
"""Rows that a thread takes at a time: a small image is decoded in the time in which it is handed over."""


@dataclass(frozen=True)
class Taken:
    """Images that are taken, and how."""

    layout: Layout
    pair_encoding: images.Encoding
    reading: images.Reading = images.Reading()
    any_pixels: bool = False
    """True for images of any channels and of 16 bits; else those of 8 bits that can be RGB."""
    longest: int | None = None
    """Bytes that a file's name below data/ may have, where each row becomes a file."""
    side: str = ""
    """Column of a pair that is kept, where each becomes a folder of its own; rows are quarantined from both alike."""
    pictures: tuple[str, ...] = ()
    """Columns that are looked at, and changed; all image columns where there are none."""

    @property
    def pairs(self) -> bool:
        """Return True where the pictures of a row are to have the same proportions."""
        return self.layout == "trees" or self.pictures == COLUMNS

    @property
    def wanted(self) -> images.PixelType | None:
        """Return the type of the pixels that are taken; None for all."""
        return None if self.any_pixels else images.RGB

    def decoded(self, cell: pa.Scalar, notes: list[str]) -> np.ndarray:
        """Return the pixels of a cell's image, and add to the `notes`. Raises BadImage where it is not taken."""
        with self._advising():
            found = images.decode_by(self.reading, images.encoded_in(cell.as_py()), wanted=self.wanted)
        notes += found.notes
        return found.pixels

    def proved(self, cell: pa.Scalar, notes: list[str]) -> tuple[int, ...]:
        """Return the shape of the pixels of a cell's image, as `decoded` would give them."""
        with self._advising():
            shape, found = images.prove_by(self.reading, images.encoded_in(cell.as_py()), wanted=self.wanted)
        notes += found
        return shape

    @contextlib.contextmanager
    def _advising(self) -> Iterator[None]:
        try:
            yield
        except images.BadImage as bad:
            if bad.reason != "unsupported type" or self.any_pixels:
                raise
            raise images.BadImage(bad.reason, f"{bad}; --pixels any takes it as it is", bad.pixels) from None


def pack_rows(batch: Batch, taken: Taken, shape: Shape | None = None, at_once: AtOnce = ONE) -> Batch:
    """Lay the rows of a unit out as a store, with the images in their `shape`; quarantine those that cannot be.


    Adds `width` and `height` of the first image of a row, or that of its kept side, in pixels, after EXIF orientation.
    Where each picture of a file becomes a row, adds `page_of` and `page`, too; a file of which one picture is bad is
    quarantined whole.
    """
    rows, quarantined, notes = batch.rows, list(batch.quarantined), Counter[str]()
    made, of = list[dict[str, Any]](), list[int]()
    pictures = list(taken.pictures) or image_columns(rows.schema)
    pictures.sort(key=lambda name: name != taken.side)  # that of the size first
    names, shards = rows["key"].to_pylist(), rows[SHARD].to_pylist()

    room = images.Room(at_once.decoded_bytes)

    def make(i: int) -> tuple[list[dict[str, Any]], list[str]] | images.BadImage:
        cells, said = {name: rows[name][i] for name in pictures}, list[str]()
        try:
            with room.of(_decoded_bytes(cells.values(), taken) if at_once.threads > 1 else 0):
                return list(_made_of(names[i], cells, taken, shape, said)), said
        except images.BadImage as bad:
            return bad

    with ThreadPoolExecutor(at_once.threads) as pool:
        parts = (range(len(rows))[first : first + _PART] for first in range(0, len(rows), _PART))
        each = pool.map(lambda part: list(map(make, part)), parts) if at_once.threads > 1 else None
        for i, found in enumerate(itertools.chain.from_iterable(each) if each else map(make, range(len(rows)))):
            if isinstance(found, images.BadImage):
                quarantined.append(Quarantined(names[i], shards[i], STAGE, found.reason, str(found)))
            else:
                made += found[0]
                of += [i] * len(found[0])
                notes.update(found[1])
            made_progress()
    good, places = np.unique(np.array(of, np.int64), return_inverse=True)
    rows = rows if len(good) == len(rows) else rows.filter(pa.array(np.isin(np.arange(len(rows)), good)))
    replaced = [c for c in (SHARD, "width", "height") if c in rows.column_names]
    rows = without_features(rows.drop_columns(replaced), replaced)
    rows = _with_pictures(rows, pictures, made, places.tolist(), taken, shape)
    for name in ("width", "height"):
        rows = rows.append_column(name, pa.array([m[name] for m in made], pa.int32()))
    return replace(
        batch,
        rows=rows,
        quarantined=tuple(quarantined),
        notes=notes_together([batch.notes, noted(notes)]),
        further=batch.further + len(made) - len(good),
    )


def _decoded_bytes(cells: Iterable[pa.Scalar], taken: Taken) -> int:
    """Return the bytes of the decoded images in these cells, by their headers."""
    encoded = (cell["bytes"].as_buffer() for cell in cells if cell.is_valid and cell["bytes"].is_valid)
    return sum(images.decoded_bytes(memoryview(data), taken.wanted) for data in encoded)


def _made_of(
    key: str, cells: Mapping[str, pa.Scalar], taken: Taken, shape: Shape | None, notes: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield what is made of a row: one entry, or one for each picture in its file; add to the `notes` on its images.

    Raises BadImage where one of them cannot be used.
    """
    if taken.longest is not None:
        _require_name(key, taken)
    if taken.reading.rows_of_pages and (each := _pictures_in(next(iter(cells.values())), taken)) is not None:
        (column,) = cells
        for number, found in enumerate(each, 1):
            if taken.longest is not None:
                _require_name(page_key(key, number), taken)
            notes += [note for note in found.notes if note not in notes]
            pixels = shape.shaped(found.pixels) if shape else found.pixels
            encoding = shape.encoding if shape else lossless(images.PixelType.of(pixels))
            ending = images.CODECS[encoding.codec].extension
            yield _encoded({column: pixels}, encoding) | {PAGE: number, ENDING: ending}
            made_progress(0)
    elif taken.layout == "pairs":
        yield _cut_pair(cells["image"], taken, shape, notes)
    elif shape:
        yield _resized(cells, taken, shape, notes)
    else:
        yield _measured(cells, taken, notes)


def _pictures_in(cell: pa.Scalar, taken: Taken) -> Iterator[images.Decoded] | None:
    """Return the pictures of a file that holds several; None for one."""
    return images.pictures_in(images.encoded_in(cell.as_py()), taken.reading, taken.wanted)


def _with_pictures(
    rows: pa.Table,
    pictures: Sequence[str],
    made: Sequence[dict[str, Any]],
    of: Sequence[int],
    taken: Taken,
    shape: Shape | None,
) -> pa.Table:
    """Return rows with the pictures that were `made` of them, each of the row with this place."""
    if taken.reading.rows_of_pages:
        return spread(rows, pictures[0], made, of)
    if taken.layout == "pairs":
        rows = rows.drop_columns("image")
        names = _names(rows, taken.pair_encoding if shape else None)
        for half in COLUMNS:
            rows = rows.append_column(half, image_column([m[half] for m in made], names))
    elif shape:
        names = _names(rows, shape.encoding)
        for name in pictures:
            at = rows.column_names.index(name)
            rows = rows.set_column(at, name, image_column([m[name] for m in made], names))
    if taken.side:
        rows = rows.drop_columns([name for name in image_columns(rows.schema) if name != taken.side])
    return rows


def with_names(rows: pa.Table, renames: Mapping[str, str]) -> pa.Table:
    """Return rows with other names for these columns, with their features."""
    changed = {old: new for old, new in renames.items() if old != new}
    if not changed:
        return rows
    features = {changed.get(name, name): said for name, said in features_of(rows.schema).items()}
    return with_features(rows.rename_columns([changed.get(name, name) for name in rows.column_names]), features)


def _names(rows: pa.Table, encoding: images.Encoding | None) -> list[str]:
    """Return the name that a row's images have: the last part of its key, with the ending of their encoding if any."""
    names = [key.rsplit("/", 1)[-1] for key in rows["key"].to_pylist()]
    if encoding is None:
        return names
    ending = images.CODECS[encoding.codec].extension
    return [f"{_stem(name)}.{ending}" for name in names]


def _stem(name: str) -> str:
    return name[: -len(found)] if (found := next(filter(name.lower().endswith, images.EXTENSIONS), "")) else name


def _require_name(key: str, taken: Taken) -> None:
    """Raise BadImage where a key cannot be a file's name; the longest ending that may be added counts."""
    assert taken.longest is not None
    whole = naming.name_fault(key, "jpeg", taken.longest) if taken.side else ""
    if fault := whole or naming.kept_name_fault(key, taken.longest):
        raise images.BadImage("unsupported name", fault)


def _measured(cells: Mapping[str, pa.Scalar], taken: Taken, notes: list[str]) -> dict[str, Any]:
    """Prove that the images in all cells of a row can be decoded; return width and height of the first."""
    sizes = [taken.proved(cell, notes) for cell in cells.values()]
    if taken.pairs:
        _require_alike(cells, sizes)
    return {"height": sizes[0][0], "width": sizes[0][1]}


def _resized(cells: Mapping[str, pa.Scalar], taken: Taken, shape: Shape, notes: list[str]) -> dict[str, Any]:
    """Decode the images in all cells of a row; return them resized and encoded, and their size."""
    pixels = {name: taken.decoded(cell, notes) for name, cell in cells.items()}
    if taken.pairs:
        _require_alike(cells, [each.shape for each in pixels.values()])
    made = _encoded({name: shape.shaped(each) for name, each in pixels.items()}, shape.encoding)
    return made | {ENDING: images.CODECS[shape.encoding.codec].extension}


def _encoded(pixels: Mapping[str, np.ndarray], encoding: images.Encoding) -> dict[str, Any]:
    """Return encoded images by column, and the size of the first. Raises BadImage where the codec cannot hold one."""
    for each in pixels.values():
        found = images.PixelType.of(each)
        if fault := images.misfit(each.shape[1], each.shape[0], encoding.codec, found):
            reason = "too large" if found in images.CODECS[encoding.codec].pixel_types else "unsupported type"
            raise images.BadImage(reason, fault)
    height, width = next(iter(pixels.values())).shape[:2]
    return {name: images.encode(each, encoding) for name, each in pixels.items()} | {"height": height, "width": width}


def _require_alike(cells: Iterable[str], sizes: Sequence[tuple[int, ...]]) -> None:
    """Raise BadImage where two pictures that should show the same have other proportions, to within a pixel."""
    first, *others = [name for name in cells if name in COLUMNS]
    (height, width), *rest = (size[:2] for name, size in zip(cells, sizes, strict=True) if name in COLUMNS)
    for name, (other_height, other_width) in zip(others, rest, strict=True):
        if abs(width * other_height - height * other_width) > max(width, height, other_width, other_height):
            raise images.BadImage(
                "not a pair",
                f"{first} has {width} × {height} pixels and {name} {other_width} × {other_height}: other proportions",
            )


def _cut_pair(cell: pa.Scalar, taken: Taken, shape: Shape | None, notes: list[str]) -> dict[str, Any]:
    pixels = taken.decoded(cell, notes)
    width = pixels.shape[1]
    if width % 2:
        raise images.BadImage("not a pair", f"an A|B picture has an even width, this one {width} pixels")
    halves = {"image_a": pixels[:, : width // 2], "image_b": pixels[:, width // 2 :]}
    if shape:
        halves = {name: shape.shaped(np.ascontiguousarray(half)) for name, half in halves.items()}
    return _encoded(halves, taken.pair_encoding)
