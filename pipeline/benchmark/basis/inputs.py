"""Inputs of a benchmark: an untrained generator, and images that cost as much as photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from gan_models import GeneratorConfig, build_generator, save_bundle
from pipeline import images, storage
from pipeline.stores.forms.shard import encode_shard
from pipeline.stores.tables.schema import image_array

_DIFFERENT_PICTURES = 64
_PAIRS_IN_A_SHARD = 256


def write_bundle(url: str, architecture: GeneratorConfig, size: int) -> None:
    """Write an untrained generator, always the same."""
    network = build_generator(architecture, generator=torch.Generator().manual_seed(0))
    save_bundle(
        lambda name, data: storage.replace(storage.join(url, name), data),
        objective="cyclegan",
        generators={"a_to_b": (architecture, network.state_dict())},
        direction="a_to_b",
        training_size=size,
        provenance={},
    )


def write_pictures(folder: str, count: int, size: int) -> None:
    """Write JPEG files, see `pictures`."""
    Path(folder).mkdir()
    files = pictures(min(count, _DIFFERENT_PICTURES), size)
    for i in range(count):
        Path(folder, f"{i:06d}.jpg").write_bytes(files[i % len(files)])


def write_pairs(url: str, files: Sequence[bytes], count: int) -> None:
    """Write a paired store of `count` rows of these images, in shards of 256."""
    for first in range(0, count, _PAIRS_IN_A_SHARD):
        rows = range(first, min(first + _PAIRS_IN_A_SHARD, count))
        keys = [f"{i:06d}" for i in rows]
        sides = {
            f"image_{side}": image_array([files[(i + shift) % len(files)] for i in rows], keys)
            for side, shift in (("a", 0), ("b", 1))
        }
        shard = encode_shard(pa.table({"key": keys} | sides), {})
        storage.replace(storage.join(url, f"{first:06d}.parquet"), shard)


def pictures(count: int, size: int) -> list[bytes]:
    """Return JPEG files of smooth images with some noise, about as large as those of photographs."""
    rng = np.random.default_rng(0)
    files = list[bytes]()
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
        noisy = (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)
        files.append(images.encode(noisy, images.Encoding(quality=90)))
    return files
