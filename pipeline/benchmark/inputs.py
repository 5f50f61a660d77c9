"""What a benchmark works on: an untrained generator, and pictures that cost what photographs cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gan_models import GeneratorConfig, build_generator, save_bundle
from pipeline import images, storage

_DIFFERENT_PICTURES = 64


def write_bundle(url: str, architecture: GeneratorConfig, size: int) -> None:
    """An untrained generator, always the same."""
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
    """JPEG files of smooth pictures with some noise, about as large as those of photographs."""
    rng = np.random.default_rng(0)
    Path(folder).mkdir()
    files = list[bytes]()
    for i in range(count):
        if i < _DIFFERENT_PICTURES:
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
            noisy = (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)
            files.append(images.encode(noisy, images.Encoding(quality=90)))
        Path(folder, f"{i:06d}.jpg").write_bytes(files[i % _DIFFERENT_PICTURES])
