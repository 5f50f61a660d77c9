"""From a store to pictures: what a run learns from is found, read and decoded to uint8, and crops are cut from it.

Shapes: S is the load size, C the crop size, n the number of samples of a rank.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from gan_models.pixels import from_uint8
from pipeline import images, storage
from pipeline.errors import UserError
from pipeline.stores import SHARD, Store, image_columns, open_store, read_rows
from pipeline.stores.tables.ranges import Range, append_range, first_rows
from pipeline.training.config.train import TrainConfig
from pipeline.training.data.order import Augmentation

_CHUNK_BYTES = 16_000_000
"""Encoded bytes that one thread reads at a time."""


_VALUES = from_uint8(torch.arange(256, dtype=torch.uint8)).numpy()


class TrainingDataError(ValueError):
    """The set cannot be trained on; the message names the store and the image."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the images of one side come from."""

    url: str
    column: str
    ranges: Sequence[Range]

    @property
    def images(self) -> int:
        return sum(r.rows for r in self.ranges)

    def first(self, count: int) -> Source:
        """Its first `count` images, or all where it has fewer."""
        return replace(self, ranges=first_rows(self.ranges, count))


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The source domain `a` and the target domain `b` of a run."""

    a: Source
    b: Source

    def decoded_bytes(self, load_size: int) -> int:
        """Memory that the decoded set takes."""
        return (self.a.images + self.b.images) * load_size * load_size * 3


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """The decoded images of a run, uint8 [N, S, S, 3]."""

    a: np.ndarray
    """Of the source domain."""
    b: np.ndarray
    """Of the target domain."""
    fingerprint: str
    """Of keys and encoded bytes, in order: another set, or another order, has another one."""


def find_sources(config: TrainConfig) -> Sources:
    """What `config.input` holds, sides swapped where the direction is b_to_a. Reads listings and footers only.

    Raises UserError where there is no store, or it lacks the images that the objective needs.
    """
    url = storage.absolute(config.input)
    inner = [storage.join(url, side) for side in ("a", "b")]
    if config.input_b:
        a, b = (_source(open_store(side), "image") for side in (url, config.input_b))
    elif not config.objective_type.paired and all(map(storage.exists, inner)):
        a, b = (_source(open_store(side), "image") for side in inner)
    else:
        store = open_store(url)
        pictures = image_columns(store.schema)
        missing = [side for side in ("image_a", "image_b") if side not in pictures]
        # A side that was translated is called `image`.
        sides = [side if side in pictures else "image" for side in ("image_a", "image_b")]
        if len(missing) > ("image" in pictures):
            also = ", or a prefix with one store as a/ and one as b/" if not config.objective_type.paired else ""
            raise UserError(
                f"{url}: has no image column {missing[0]} (its columns are {', '.join(store.schema.names)}); "
                f"{config.objective} needs a paired store, such as jobs.pack --layout pairs makes{also}"
            )
        a, b = (_source(store, side) for side in sides)
    return Sources(a=a, b=b) if config.direction == "a_to_b" else Sources(a=b, b=a)


def load_images(sources: Sources, load_size: int, threads: int) -> ImageSet:
    """Decode every image and resize it to S×S, bicubic, ignoring the aspect.

    Raises TrainingDataError naming the image that cannot be decoded (packing has removed such images), and what
    reading raises.
    """
    a_NSSC, b_NSSC = (np.empty((n, load_size, load_size, 3), np.uint8) for n in (sources.a.images, sources.b.images))
    with ThreadPoolExecutor(threads) as pool:
        digests = list(pool.map(lambda chunk: decode_chunk(chunk, a_NSSC, b_NSSC), chunks_of(sources)))
    return ImageSet(a=a_NSSC, b=b_NSSC, fingerprint=fingerprint_of(sources, digests))


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Consecutive rows that are read and decoded at once."""

    ranges: Sequence[Range]
    a: str | None
    """Column of A's images, None where these rows are not of A."""
    b: str | None
    start: int
    """Number of the first of these rows on its side."""


def chunks_of(sources: Sources) -> list[Chunk]:
    """All rows, first those of A; both columns of a row together where they are in one store."""
    a, b = sources.a, sources.b
    if a.ranges == b.ranges:
        return list(_chunks(a.ranges, a.column, b.column))
    return [*_chunks(a.ranges, a.column, None), *_chunks(b.ranges, None, b.column)]


def decode_chunk(chunk: Chunk, a_NSSC: np.ndarray, b_NSSC: np.ndarray) -> list[bytes]:
    """Decode the rows of a chunk into their places; a digest for each row, of key and encoded bytes."""
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
            images_NSSC[chunk.start + i] = decode_image(data, images_NSSC.shape[1], where)
        digests.append(digest.digest())
    return digests


def fingerprint_of(sources: Sources, digests: Sequence[Sequence[bytes]]) -> str:
    """Of the whole set, from the digests of all chunks, in order."""
    rows = [digest for chunk in digests for digest in chunk]
    if sources.a.ranges == sources.b.ranges:
        return _sha256(rows)
    sides = rows[: sources.a.images], rows[sources.a.images :]
    return _sha256([_sha256(side).encode() for side in sides])


def decode_image(data: bytes, load_size: int, where: tuple[str, str, str]) -> np.ndarray:
    """An image resized to uint8 [S, S, 3]. Raises TrainingDataError naming `where`: the shard's URL, column and key."""
    try:
        return images.resize(images.decode(data).pixels, load_size, load_size)
    except images.BadImage as bad:
        shard, column, key = where
        raise TrainingDataError(
            f"{shard}: {column} of {key!r} cannot be decoded ({bad.reason}: {bad}); "
            "pack the images anew with jobs.pack, which sets such images aside"
        ) from bad


def cut(images_nSSC: Sequence[np.ndarray] | np.ndarray, how: Augmentation, crop_size: int) -> Tensor:
    """The crops of the samples, uint8 [n, 3, C, C]; of one black image where there is no sample."""
    crops = [
        image[top : top + crop_size, left : left + crop_size][:, :: -1 if flip else 1]
        for image, top, left, flip in zip(images_nSSC, how.top, how.left, how.flip, strict=True)
    ] or [np.zeros((crop_size, crop_size, 3), np.uint8)]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


def cut_on_device(pixels_nSSC: Tensor, how: Augmentation, crop_size: int) -> Tensor:
    """The same as `cut` gives, of a tensor on any device, where n is not 0."""
    device, along = pixels_nSSC.device, np.arange(crop_size)
    rows_nC = how.top[:, None] + along
    columns_nC = how.left[:, None] + np.where(how.flip[:, None], along[::-1], along)
    rows, columns = (to_device(torch.from_numpy(which), device) for which in (rows_nC, columns_nC))
    sample = torch.arange(len(pixels_nSSC), device=device)
    return pixels_nSSC[sample[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """`values` on `device`; to a GPU by way of pinned memory, without waiting for the copy."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def to_input(pixels_nCHW: Tensor, device: torch.device, memory_format: torch.memory_format) -> Tensor:
    """uint8 crops as what the networks take: fp32 in [-1, 1], on `device`."""
    return from_uint8(pixels_nCHW.to(device)).contiguous(memory_format=memory_format)


def to_input_on_one_thread(pixels_nCHW: Tensor, memory_format: torch.memory_format) -> Tensor:
    """The same as `to_input` gives on a CPU, by a table: torch's threads, which a training step has use for, are not
    called."""
    if memory_format == torch.channels_last:
        return torch.from_numpy(np.take(_VALUES, pixels_nCHW.permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    return torch.from_numpy(np.take(_VALUES, np.ascontiguousarray(pixels_nCHW.numpy())))


def _source(store: Store, column: str) -> Source:
    if column not in image_columns(store.schema):
        raise UserError(
            f"{store.url}: has no image column {column} (its columns are {', '.join(store.schema.names)}); "
            "pack each domain's images into a store of its own: jobs.pack --layout unpaired"
        )
    if not store.rows:
        raise UserError(f"{store.url}: the store has no images")
    return Source(url=store.url, column=column, ranges=list(store.ranges))


def _chunks(ranges: Sequence[Range], a: str | None, b: str | None) -> Iterator[Chunk]:
    """Consecutive ranges, together up to the size of a chunk; those of one shard are joined, to be one read."""
    held, size, start = list[Range](), 0, 0
    for piece in ranges:
        if held and size + piece.size > _CHUNK_BYTES:
            yield Chunk(ranges=held, a=a, b=b, start=start)
            start += sum(r.rows for r in held)
            held, size = [], 0
        size += piece.size
        append_range(held, piece)
    if held:
        yield Chunk(ranges=held, a=a, b=b, start=start)


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=64):
        yield from batch.to_pylist()


def _sha256(parts: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()
