"""Access to the images of a store: finds, reads and decodes them to pixels, and cuts crops from them.

Shapes: S is the load size, C the crop size, n the number of samples of a rank.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from gan_models.pixels import from_pixels
from pipeline import images, storage
from pipeline.errors import UserError
from pipeline.images import RGB, PixelType
from pipeline.models.bundles import pixel_types
from pipeline.stores import SHARD, Store, image_columns, open_store, read_rows
from pipeline.stores.tables.ranges import Range, Ranges, append_range
from pipeline.training.config.train import TrainConfig
from pipeline.training.data.order import Augmentation

_CHUNK_BYTES = 16_000_000
"""Number of encoded bytes that one thread reads at a time."""


class TrainingDataError(ValueError):
    """Set that cannot be trained on; the message names the store and the image."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Location of the images of one side."""

    url: str
    column: str
    ranges: Ranges
    pixel_type: PixelType = RGB
    """Type of the decoded images' pixels."""
    reading: images.Reading = images.AS_STORED

    @property
    def images(self) -> int:
        return self.ranges.rows

    def shape(self, load_size: int) -> tuple[int, ...]:
        """Return the shape of all its images, decoded to this size."""
        return self.images, *self.pixel_type.shape(load_size, load_size)

    def decoded_bytes(self, load_size: int) -> int:
        """Return the memory that all its images take, decoded to this size, in bytes."""
        return self.images * load_size**2 * self.pixel_type.bytes

    def first(self, count: int) -> Source:
        """Return a source of the first `count` images, or of all where there are fewer."""
        return replace(self, ranges=self.ranges.first_rows(count))


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Source domain `a` and target domain `b` of a run."""

    a: Source
    b: Source

    def decoded_bytes(self, load_size: int) -> int:
        """Return the memory that the decoded set takes, in bytes."""
        return self.a.decoded_bytes(load_size) + self.b.decoded_bytes(load_size)


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Decoded images of a run, [N, S, S, channels]."""

    a: np.ndarray
    """Images of the source domain."""
    b: np.ndarray
    """Images of the target domain."""
    fingerprint: str
    """Hash of keys and encoded bytes, in order; it differs for another set or another order."""


def find_sources(config: TrainConfig) -> Sources:
    """Return the sources in `config.input`, with sides swapped where the direction is b_to_a. Reads no images.

    It reads listings and footers only. Raises UserError where there is no store, or where it lacks the images that the
    objective needs.
    """
    url = storage.absolute(config.input)
    options = config.store_options
    substores = [storage.join(url, side) for side in ("a", "b")]
    if config.input_b:
        a, b = (_source(open_store(side, options=options), "image") for side in (url, config.input_b))
    elif not config.objective_type.paired and all(map(storage.exists, substores)):
        a, b = (_source(open_store(side, options=options), "image") for side in substores)
    else:
        store = open_store(url, options=options)
        columns = image_columns(store.schema)
        missing = [side for side in ("image_a", "image_b") if side not in columns]
        # Stores of translations call the translated side `image`.
        sides = [side if side in columns else "image" for side in ("image_a", "image_b")]
        if len(missing) > ("image" in columns):
            also = ", or a prefix with one store as a/ and one as b/" if not config.objective_type.paired else ""
            raise UserError(
                f"{url}: has no image column {missing[0]} (its columns are {', '.join(store.schema.names)}); "
                f"{config.objective} needs a paired store, such as jobs.pack --layout pairs makes{also}"
            )
        a, b = (_source(store, side) for side in sides)
    takes, gives = pixel_types(config.generator)
    source, target = (a, b) if config.direction == "a_to_b" else (b, a)
    return Sources(
        a=replace(source, pixel_type=takes, reading=config.reading),
        b=replace(target, pixel_type=gives, reading=config.reading),
    )


def load_images(sources: Sources, load_size: int, threads: int) -> ImageSet:
    """Decode every image and resize it to S×S, bicubic, ignoring the aspect ratio.

    Raises TrainingDataError naming an image that cannot be decoded (packing quarantines such images), and what reading
    raises.
    """
    a_NSSC, b_NSSC = (np.empty(side.shape(load_size), side.pixel_type.dtype) for side in (sources.a, sources.b))
    with ThreadPoolExecutor(threads) as pool:
        digests = list(pool.map(lambda chunk: decode_chunk(chunk, a_NSSC, b_NSSC), chunks_of(sources)))
    return ImageSet(a=a_NSSC, b=b_NSSC, fingerprint=fingerprint_of(sources, digests))


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Consecutive rows that are read and decoded together."""

    ranges: Sequence[Range]
    a: str | None
    """Column of A's images; None where these rows are not of A."""
    b: str | None
    start: int
    """Index of the first of these rows on its side."""
    reading: images.Reading


def chunks_of(sources: Sources) -> list[Chunk]:
    """Return all rows in chunks, those of A first; both columns of a row together where they are in one store."""
    a, b = sources.a, sources.b
    if a.ranges == b.ranges:
        return list(_chunks(a, a.column, b.column))
    return [*_chunks(a, a.column, None), *_chunks(b, None, b.column)]


def decode_chunk(chunk: Chunk, a_NSSC: np.ndarray, b_NSSC: np.ndarray) -> list[bytes]:
    """Decode the rows of a chunk into their positions in the arrays.

    Returns a digest of each row's key and encoded bytes.
    """
    targets = [(column, side) for column, side in ((chunk.a, a_NSSC), (chunk.b, b_NSSC)) if column]
    table = read_rows(chunk.ranges, [column for column, _ in targets])
    urls = {r.shard: r.url for r in chunk.ranges}
    digests = []
    for i, row in enumerate(_rows(table)):
        digest = hashlib.sha256(row["key"].encode())
        for column, images_NSSC in targets:
            data = (row[column] or {}).get("bytes") or b""
            digest.update(len(data).to_bytes(8, "big") + data)
            where = (urls[row[SHARD]], column, row["key"])
            pixel_type = PixelType.of(images_NSSC[chunk.start + i])
            images_NSSC[chunk.start + i] = decode_image(data, images_NSSC.shape[1], where, pixel_type, chunk.reading)
        digests.append(digest.digest())
    return digests


def fingerprint_of(sources: Sources, digests: Sequence[Sequence[bytes]]) -> str:
    """Return the fingerprint of the set, from the digests of all chunks in order."""
    rows = [digest for chunk in digests for digest in chunk]
    if sources.a.ranges == sources.b.ranges:
        return _sha256(rows)
    sides = rows[: sources.a.images], rows[sources.a.images :]
    return _sha256([_sha256(side).encode() for side in sides])


_room = images.Room(512_000_000)
"""Room of this process for images of their own size, until they are resized."""


def decode_image(
    data: bytes,
    load_size: int,
    where: tuple[str, str, str],
    pixel_type: PixelType = RGB,
    reading: images.Reading = images.AS_STORED,
) -> np.ndarray:
    """Decode an image to pixels of this type, and resize it to [S, S, channels].

    Raises TrainingDataError naming `where`: the shard's URL, column and key.
    """
    try:
        with _room.of(images.decoded_bytes(data, pixel_type)):
            return images.resize(images.decode_by(reading, data, wanted=pixel_type).pixels, load_size, load_size)
    except images.BadImage as error:
        shard, column, key = where
        if error.reason == "unsupported type":
            raise TrainingDataError(
                f"{shard}: {column} of {key!r} {error}; say channels and bits of the images with "
                "--generator.in_channels and in_bits (source), out_channels and out_bits (target)"
            ) from error
        raise TrainingDataError(
            f"{shard}: {column} of {key!r} cannot be decoded ({error.reason}: {error}); "
            "pack the images anew with jobs.pack, which quarantines such images"
        ) from error


def cut(
    images_nSSC: Sequence[np.ndarray] | np.ndarray,
    augmentation: Augmentation,
    crop_size: int,
    pixel_type: PixelType = RGB,
) -> Tensor:
    """Return the crops of the samples, [n, channels, C, C]; one black image of this type where there is no sample."""
    crops = [
        image[top : top + crop_size, left : left + crop_size][:, :: -1 if flip else 1]
        for image, top, left, flip in zip(
            images_nSSC, augmentation.top, augmentation.left, augmentation.flip, strict=True
        )
    ] or [np.zeros(pixel_type.shape(crop_size, crop_size), pixel_type.dtype)]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


def cut_on_device(pixels_nSSC: Tensor, augmentation: Augmentation, crop_size: int) -> Tensor:
    """Return the same as `cut`, from a tensor on any device; n must not be 0."""
    device, along = pixels_nSSC.device, np.arange(crop_size)
    rows_nC = augmentation.top[:, None] + along
    columns_nC = augmentation.left[:, None] + np.where(augmentation.flip[:, None], along[::-1], along)
    rows, columns = (to_device(torch.from_numpy(which), device) for which in (rows_nC, columns_nC))
    sample = torch.arange(len(pixels_nSSC), device=device)
    where = sample[:, None, None], rows[:, :, None], columns[:, None, :]
    if pixels_nSSC.dtype == torch.uint16:  # which torch does not index
        return pixels_nSSC.view(torch.int16)[where].view(torch.uint16).permute(0, 3, 1, 2)
    return pixels_nSSC[where].permute(0, 3, 1, 2)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return `values` on `device`; the copy to a GPU goes through pinned memory and is not waited for."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def to_input(pixels_nCHW: Tensor, device: torch.device, memory_format: torch.memory_format) -> Tensor:
    """Convert crops to the input of the networks: fp32 in [-1, 1], on `device`."""
    return from_pixels(pixels_nCHW.to(device)).contiguous(memory_format=memory_format)


def to_input_on_one_thread(pixels_nCHW: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Return the same as `to_input` on a CPU, using a table.

    It leaves torch's threads alone, which the training step needs.
    """
    pixels = pixels_nCHW.numpy()
    values = _float_values(pixels.dtype.name)
    if memory_format == torch.channels_last:
        return torch.from_numpy(np.take(values, pixels.transpose(0, 2, 3, 1))).permute(0, 3, 1, 2)
    return torch.from_numpy(np.take(values, np.ascontiguousarray(pixels)))


@functools.cache
def _float_values(kind: str) -> np.ndarray:
    """Return the network's input for each value of an unsigned type, such as uint8."""
    return from_pixels(torch.from_numpy(np.arange(np.iinfo(kind).max + 1).astype(kind))).numpy()


def _source(store: Store, column: str) -> Source:
    pictures = image_columns(store.schema)
    if column == "image" and len(pictures) == 1 and pictures[0] not in ("image_a", "image_b"):
        column = pictures[0]  # whatever its name is
    if column not in pictures:
        raise UserError(
            f"{store.url}: has no image column {column} (its columns are {', '.join(store.schema.names)}); "
            "pack each domain's images into a store of its own: jobs.pack --layout unpaired"
        )
    if not store.rows:
        raise UserError(f"{store.url}: the store has no images")
    return Source(url=store.url, column=column, ranges=store.ranges)


def _chunks(source: Source, a: str | None, b: str | None) -> Iterator[Chunk]:
    """Yield consecutive ranges together, up to the size of a chunk; adjacent ranges of one shard become one read."""
    held, size, start = list[Range](), 0, 0
    for piece in source.ranges:
        if held and size + piece.size > _CHUNK_BYTES:
            yield Chunk(ranges=held, a=a, b=b, start=start, reading=source.reading)
            start += sum(r.rows for r in held)
            held, size = [], 0
        size += piece.size
        append_range(held, piece)
    if held:
        yield Chunk(ranges=held, a=a, b=b, start=start, reading=source.reading)


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=64):
        yield from batch.to_pylist()


def _sha256(parts: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()
