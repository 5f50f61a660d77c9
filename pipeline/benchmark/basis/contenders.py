"""Loop that people have today, and the model by itself, each in a process of its own (`running`)."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gan_models.pixels import from_pixels, to_pixels
from pipeline import images
from pipeline.benchmark.basis.running import running
from pipeline.models.arithmetic import Arithmetic
from pipeline.models.bundles import open_bundle
from pipeline.translation.stages import Translate

__all__ = ["ModelAlone", "PlainLoop", "running"]


@dataclass(frozen=True)
class PlainLoop:
    """Loop over images in fp32: Pillow reads a JPEG file, the network runs eagerly, Pillow writes a PNG.

    The network is this project's, whose instance norm is faster than torch's own.
    """

    folder: str
    bundle: str
    device: str
    count: int

    def prepare(self) -> Callable[[], int]:
        network = open_bundle(self.bundle).generator("a_to_b")
        network = network.eval().to(self.device)
        names = sorted(path for path in Path(self.folder).iterdir() if path.suffix == ".jpg")[: self.count]

        def repetition() -> int:
            for name in names:
                pixels = torch.from_numpy(np.array(Image.open(name).convert("RGB")))
                with torch.no_grad():
                    output = network(from_pixels(pixels.permute(2, 0, 1)[None].to(self.device)))
                translated = to_pixels(output[0]).permute(1, 2, 0).cpu().numpy()
                Image.fromarray(translated).save(io.BytesIO(), "PNG")
            return len(names)

        return repetition


@dataclass(frozen=True)
class ModelAlone:
    """Network as `jobs.translate` runs it, from decoded pixels to pixels, in one process that does nothing else."""

    folder: str
    bundle: str
    arithmetic: Arithmetic
    count: int

    def prepare(self) -> Callable[[], int]:
        translator = Translate(self.bundle, "a_to_b", self.arithmetic).translator
        names = sorted(path for path in Path(self.folder).iterdir() if path.suffix == ".jpg")
        frames = [images.decode(name.read_bytes()).pixels for name in names]
        frames = [frames[i % len(frames)] for i in range(self.count)]

        def repetition() -> int:
            _, faults = translator(frames)
            if faults:
                raise RuntimeError(f"the model failed: {next(iter(faults.values()))}")
            return len(frames)

        return repetition
