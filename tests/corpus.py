"""Small inputs for tests of whole jobs: images with a few bad ones among them, and an untrained bundle."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from gan_models import GeneratorConfig, build_generator, save_bundle
from pipeline import images, storage
from pipeline.engine.completion.finish import DETERMINISTIC_COLUMNS


def picture(seed: int, height: int = 24, width: int = 24) -> np.ndarray:
    """Return a smooth random image, uint8 [height, width, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def write_folder(url: str, count: int, *, height: int = 24, width: int = 24) -> str:
    """Write a folder of `count` good images, a truncated one, an empty one and a text file called .jpg."""
    for i in range(count):
        codec: images.CodecName = "png" if i % 3 else "jpeg"
        name = f"{'even' if i % 2 == 0 else 'odd'}/{i:03d}.{images.CODECS[codec].extension}"
        data = images.encode(picture(i, height, width), images.Encoding(codec=codec))
        storage.replace(storage.join(url, name), data)
    whole = images.encode(picture(999, 64, 64), images.Encoding())
    storage.replace(storage.join(url, "even/truncated.jpg"), whole[: len(whole) // 2])
    storage.replace(storage.join(url, "odd/empty.png"), b"")
    storage.replace(storage.join(url, "odd/text.jpg"), b"no picture at all")
    return url


BROKEN = {"even/truncated.jpg": "corrupt", "odd/empty.png": "empty", "odd/text.jpg": "not an image"}


def write_bundle(url: str, *, width: int = 4, size: int = 24, **options: Any) -> str:
    """Write a bundle of an untrained, seeded ResNet of two blocks (or what `options` say)."""
    config = GeneratorConfig(**({"kind": "resnet", "width": width, "depth": 2, "norm": "instance"} | options))
    network = build_generator(config, generator=torch.Generator().manual_seed(1))
    # Untrained weights turn everything grey; larger ones make every pixel depend on its input.
    state = {k: v * 8 if v.ndim > 1 else v for k, v in network.state_dict().items()}
    save_bundle(
        lambda name, data: storage.replace(storage.join(url, name), data),
        objective="pix2pix",
        generators={"a_to_b": (config, state)},
        direction="a_to_b",
        training_size=size,
        provenance={},
    )
    return url


def contents(output: str) -> Mapping[str, Any]:
    """Return everything in an output that must not depend on what happened on the way to it."""
    found: dict[str, Any] = {}
    for entry in storage.list_files(output):
        if entry.name.startswith(("data/", "_quarantine/", "_transdomain/verdicts/")):
            found[entry.name] = storage.read(entry.url)
    manifest = pq.read_table(io.BytesIO(storage.read(storage.join(output, "_transdomain/manifest.parquet"))))
    found["manifest"] = manifest.select(DETERMINISTIC_COLUMNS).to_pylist()
    return found


def rows(output: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """Return all rows of a Parquet output, in the order of its shards."""
    return rows_below(storage.join(output, "data"), columns)


def rows_below(prefix: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """Return all rows of the shards below a prefix, in their order."""
    shards = [e for e in storage.list_files(prefix) if e.name.endswith(".parquet")]
    tables = [pq.read_table(io.BytesIO(storage.read(e.url)), columns=columns) for e in shards]
    return [row for table in tables for row in table.to_pylist()]
