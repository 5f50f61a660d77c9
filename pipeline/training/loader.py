"""From a store to batches: the set is decoded once into uint8 and held in memory; crops are cut from it.

Shapes: S is the load size, C the crop size, n the number of samples of a rank.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from gan_models.pixels import from_uint8
from pipeline import images, storage
from pipeline.config.train import TrainConfig
from pipeline.engine.plan import Range, append_range, first_rows
from pipeline.errors import UserError
from pipeline.stores import Store, image_columns, open_store, read_rows
from pipeline.training.order import Augmentation, Order, Samples, augmentation

_CHUNK_BYTES = 16_000_000
"""Encoded bytes that one thread reads at a time."""


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
    if config.objective == "cyclegan" and all(map(storage.exists, inner)):
        a, b = (_source(open_store(side), "image") for side in inner)
    else:
        store = open_store(url)
        missing = [column for column in ("image_a", "image_b") if column not in image_columns(store.schema)]
        if missing:
            also = ", or a prefix with one store as a/ and one as b/" if config.objective == "cyclegan" else ""
            raise UserError(
                f"{url}: has no image column {missing[0]} (its columns are {', '.join(store.schema.names)}); "
                f"{config.objective} needs a paired store, such as jobs.pack --layout pairs makes{also}"
            )
        a, b = _source(store, "image_a"), _source(store, "image_b")
    return Sources(a=a, b=b) if config.direction == "a_to_b" else Sources(a=b, b=a)


def load_images(sources: Sources, load_size: int, threads: int) -> ImageSet:
    """Decode every image and resize it to S×S, bicubic, ignoring the aspect.

    Raises TrainingDataError naming the image that cannot be decoded (packing has removed such images), and what
    reading raises.
    """
    a, b = sources.a, sources.b
    if a.ranges == b.ranges:
        sides, digest = _decode_all(a.ranges, [a.column, b.column], load_size, threads)
        return ImageSet(a=sides[0], b=sides[1], fingerprint=digest)
    (a_NSSC,), digest_a = _decode_all(a.ranges, [a.column], load_size, threads)
    (b_NSSC,), digest_b = _decode_all(b.ranges, [b.column], load_size, threads)
    return ImageSet(a=a_NSSC, b=b_NSSC, fingerprint=_sha256([digest_a.encode(), digest_b.encode()]))


def cut_batch(images: ImageSet, order: Order, samples: Samples, config: TrainConfig) -> list[Tensor]:
    """The crops of A and of B for these samples, uint8 [n, 3, C, C] each."""
    room, crop_size, flip = config.load_size - config.crop_size, config.crop_size, config.flip
    return [
        cut(images.a, samples.a, augmentation(order, samples, "a", room=room, flip=flip), crop_size),
        cut(images.b, samples.b, augmentation(order, samples, "b", room=room, flip=flip), crop_size),
    ]


def cut(images_NSSC: np.ndarray, which: np.ndarray, how: Augmentation, crop_size: int) -> Tensor:
    """The crops of the samples, uint8 [n, 3, C, C]; of one black image where there is no sample."""
    crops = [
        image[top : top + crop_size, left : left + crop_size][:, :: -1 if flip else 1]
        for image, top, left, flip in zip(images_NSSC[which], how.top, how.left, how.flip, strict=True)
    ] or [np.zeros((crop_size, crop_size, 3), np.uint8)]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


def to_input(pixels_nCHW: Tensor, device: torch.device, memory_format: torch.memory_format) -> Tensor:
    """uint8 crops as what the networks take: fp32 in [-1, 1], on `device`."""
    return from_uint8(pixels_nCHW.to(device)).contiguous(memory_format=memory_format)


def _source(store: Store, column: str) -> Source:
    if column not in image_columns(store.schema):
        raise UserError(
            f"{store.url}: has no image column {column} (its columns are {', '.join(store.schema.names)}); "
            "pack each domain's images into a store of its own: jobs.pack --layout unpaired"
        )
    if not store.rows:
        raise UserError(f"{store.url}: the store has no images")
    return Source(url=store.url, column=column, ranges=list(store.ranges))


def _decode_all(
    ranges: Sequence[Range], columns: Sequence[str], size: int, threads: int
) -> tuple[list[np.ndarray], str]:
    """A uint8 array [N, S, S, 3] for each column, and a digest of what was decoded."""
    rows = sum(r.rows for r in ranges)
    pixels = [np.empty((rows, size, size, 3), np.uint8) for _ in columns]
    chunks = _chunks(ranges)
    starts = np.cumsum([0, *(sum(r.rows for r in chunk) for chunk in chunks)])

    def decode_chunk(chunk: Sequence[Range], start: int) -> list[bytes]:
        table = read_rows(chunk, columns)
        return [_decode_row(row, columns, size, pixels, start + i) for i, row in enumerate(_rows(table))]

    with ThreadPoolExecutor(threads) as pool:
        digests = [digest for part in pool.map(decode_chunk, chunks, starts) for digest in part]
    return pixels, _sha256(digests)


def _chunks(ranges: Sequence[Range]) -> list[list[Range]]:
    """Consecutive ranges, together up to the size of a chunk; those of one shard are joined, to be one read."""
    chunks: list[list[Range]] = []
    size = _CHUNK_BYTES
    for piece in ranges:
        if size + piece.size > _CHUNK_BYTES:
            chunks.append([])
            size = 0
        size += piece.size
        append_range(chunks[-1], piece)
    return chunks


def _rows(table: pa.Table) -> list[dict]:
    return [row for batch in table.to_batches(max_chunksize=64) for row in batch.to_pylist()]


def _decode_row(row: dict, columns: Sequence[str], size: int, pixels: Sequence[np.ndarray], place: int) -> bytes:
    digest = hashlib.sha256(row["key"].encode())
    for column, images_NSSC in zip(columns, pixels, strict=True):
        data = (row[column] or {}).get("bytes") or b""
        digest.update(len(data).to_bytes(8, "big") + data)
        try:
            images_NSSC[place] = images.resize(images.decode(data).pixels, size, size)
        except images.BadImage as bad:
            raise TrainingDataError(
                f"{row['source_shard']}: {column} of {row['key']!r} cannot be decoded ({bad.reason}: {bad}); "
                "pack the images anew with jobs.pack, which sets such images aside"
            ) from bad
    return digest.digest()


def _sha256(parts: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()
