"""Corpora that are hard on memory: much larger decoded than encoded, or in shards that cannot be read in parts."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.benchmark.memory.config import CorpusName
from pipeline.stores.tables.schema import image_array

_DIFFERENT = 8
"""Pictures that differ; a corpus repeats them under new names."""


class Corpus(NamedTuple):
    """Store to read, and one of its images by itself."""

    url: str
    one: str
    """Folder with the image."""
    images: int


class _Kind(NamedTuple):
    images: int
    size: tuple[int, int]
    """Width and height."""
    few: tuple[int, tuple[int, int]]
    """Images and size where nothing is measured."""
    ending: str
    encode: Callable[[int, tuple[int, int]], bytes]
    """From a picture's number and size to its file."""


def write_corpus(name: CorpusName, folder: Path, *, quick: bool) -> Corpus:
    """Write the corpus of this name below `folder`, and return where it is."""
    kind = _KINDS[name]
    count, size = kind.few if quick else (kind.images, kind.size)
    files = [kind.encode(i, size) for i in range(min(count, 1 if name == "bombs" else _DIFFERENT))]
    one = folder / f"{name}-one"
    one.mkdir(parents=True)
    (one / f"0.{kind.ending}").write_bytes(files[0])
    if name == "one_group":
        url = folder / f"{name}.parquet"
        _write_one_group(url, files, count)
    else:
        url = folder / name
        url.mkdir()
        for i in range(count):
            (url / f"{i:06d}.{kind.ending}").write_bytes(files[i % len(files)])
    return Corpus(str(url), str(one), count)


def _write_one_group(url: Path, files: Sequence[bytes], count: int) -> None:
    """Write all rows as one row group, as pyarrow does by default up to a million rows."""
    keys = [f"{i:06d}" for i in range(count)]
    rows = pa.table({"key": keys, "image": image_array([files[i % len(files)] for i in range(count)], keys)})
    pq.write_table(rows, url)


def _photograph(number: int, size: tuple[int, int], quality: int = 90) -> bytes:
    """Return a JPEG of a smooth picture with some noise, about as large as that of a photograph."""
    rng = np.random.default_rng(number)
    smooth = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noise = rng.integers(-6, 7, (size[1], size[0], 1), dtype=np.int16)
    noisy = (np.asarray(smooth, np.int16) + noise).clip(0, 255).astype(np.uint8)
    return _saved(Image.fromarray(noisy), "JPEG", quality=quality)


def _large_photograph(number: int, size: tuple[int, int]) -> bytes:
    return _photograph(number, size, quality=98)


def _flat(number: int, size: tuple[int, int]) -> bytes:
    return _saved(Image.new("RGB", size, (number, 2 * number % 256, 99)), "PNG")


def _bomb(number: int, size: tuple[int, int]) -> bytes:
    return _saved(Image.new("RGB", size), "WEBP", lossless=True, method=0, quality=0)


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


_KINDS: Mapping[CorpusName, _Kind] = {
    "photographs": _Kind(400, (1024, 768), (12, (96, 64)), "jpg", _photograph),
    "flat": _Kind(120, (2000, 2000), (12, (200, 200)), "png", _flat),
    "bombs": _Kind(6, (16_383, 10_923), (3, (1000, 1000)), "webp", _bomb),
    "one_group": _Kind(1000, (1024, 768), (12, (96, 64)), "jpg", _large_photograph),
}
