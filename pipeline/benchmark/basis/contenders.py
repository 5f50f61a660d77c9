"""Loop that people have today, and the model by itself, each in its own process with its own environment."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image

from gan_models.pixels import from_pixels, to_pixels
from pipeline import images
from pipeline.models.arithmetic import Arithmetic
from pipeline.models.bundles import open_bundle
from pipeline.translation.stages import Translate


class Contender(Protocol):
    """Something that translates a fixed number of images again and again."""

    def prepare(self) -> Callable[[], int]:
        """Load what is needed and return the repetition, a function that returns the number of images it translated."""
        ...


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


@contextlib.contextmanager
def running(contender: Contender, environment: Mapping[str, str]) -> Iterator[Callable[[], float]]:
    """Start a process that loads `contender` and runs it once; yield a function that measures it once, in images/s."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(contender, there), daemon=True)
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)  # glibc reads it when the process starts
    try:
        process.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    there.close()

    def measure() -> float:
        here.send(True)
        return _answer(here)

    try:
        _answer(here)
        yield measure
    finally:
        here.close()
        process.join(10)
        process.kill()


def _answer(pipe: Connection) -> float:
    try:
        answer = pipe.recv()
    except EOFError:
        raise RuntimeError("a process of the benchmark has ended by itself; was there enough memory?") from None
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return float(answer)


def _serve(contender: Contender, pipe: Connection) -> None:
    """Answer each request with a rate, or with a line that says what went wrong, until the other end closes."""
    try:
        repetition = contender.prepare()
        repetition()
        pipe.send(0.0)
        while True:
            pipe.recv()
            started = time.perf_counter()
            count = repetition()
            pipe.send(count / (time.perf_counter() - started))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except Exception as error:  # the other process raises it again
        pipe.send(f"{type(contender).__name__}: {type(error).__name__}: {error}")
