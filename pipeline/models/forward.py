"""Passes of frames of one size through a generator, on its device, whole or in tiles."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from torch import nn

from gan_models import translation_mode, with_winograd_trunk
from gan_models.pixels import from_pixels, mirrored, pad_by_reflection, padded_size, to_pixels
from gan_models.tiling import Rows, can_tile, strips, tiled
from pipeline.cluster.watchdog import made_progress
from pipeline.images import RGB, PixelType
from pipeline.models.arithmetic import Arithmetic, Size
from pipeline.models.bundles import Architecture, pixel_types
from pipeline.models.compiled import Package
from pipeline.models.ends import with_fast_ends
from pipeline.models.native import with_native_trunk
from pipeline.models.programs import Program
from pipeline.models.runners import Runner, check_independent

_PROOF_SIDE = 64
"""Side of the images, in pixels, with which a program proves that none depends on another."""

AHEAD = 1
"""Groups that a GPU is given before the last one is back, so that it never waits for Python."""


def prepare(generator: nn.Module, arithmetic: Arithmetic) -> nn.Module:
    """Return `generator` ready to translate eagerly: on its device, in its precision, with its trunk.

    `generator` stays as it is. The result follows its training only where it needs no other weights: on a CPU, in fp32.
    """
    if isinstance(generator, Runner):
        return generator.on(arithmetic.device)
    dtype = _dtype(arithmetic)
    network = translation_mode(generator)
    if arithmetic.device == "cuda" or any((w.device.type, w.dtype) != ("cpu", dtype) for w in network.parameters()):
        network = copy.deepcopy(network)  # because `to` changes the weights in place, and they are the generator's
    network = network.to(arithmetic.device, dtype)
    if arithmetic.trunk == "winograd":
        network = with_winograd_trunk(network)
    elif arithmetic.trunk == "winograd_c":
        network = with_native_trunk(network)
    if arithmetic.device == "cuda":
        network = with_fast_ends(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


@dataclass(frozen=True)
class PreparedGenerator:
    """A generator that `prepare` has made ready, and what has to be known to run it."""

    network: nn.Module
    arithmetic: Arithmetic
    multiple: int = 1
    """Height and width that the network takes are multiples of it, in pixels."""
    least: int = 1
    """Smallest height and width that the network takes, in pixels."""
    takes: PixelType = RGB
    """Type of the frames' pixels."""
    gives: PixelType = RGB
    """Type of the translations' pixels."""
    compiled: Mapping[Size, Callable[[torch.Tensor], torch.Tensor]] = field(default_factory=dict)
    """Compiled code of the same network, by the size of the images that come to it."""
    counts_rows: bool = True
    """True where each image that is done is a row that is done, for the progress."""

    @classmethod
    def of(cls, generator: nn.Module, config: Architecture, arithmetic: Arithmetic) -> Self:
        """Return a generator of this architecture, ready to run.

        Raises CannotCompileError where `arithmetic` has compiled sizes that this machine's cache lacks, and no compiler
        makes them, and ValueError where a program's images depend on each other in a batch.
        """
        network, (takes, gives) = prepare(generator, arithmetic), pixel_types(config)
        if isinstance(config, Program) and arithmetic.batch > 1:
            side = max(config.least_size, config.size_multiple * -(-_PROOF_SIDE // config.size_multiple))
            check_independent(network, config, arithmetic.batch, config.fixed_size or (side, side), arithmetic.device)
        compiled = {
            size: Package.of(network, (arithmetic.batch_of(size), config.in_channels, *size), arithmetic).load()
            for size in arithmetic.compiled
        }
        return cls(network, arithmetic, config.size_multiple, config.least_size, takes, gives, compiled)

    def batch_of(self, shape: tuple[int, ...]) -> int:
        """Return the number of frames of this shape, [height, width, channels], that go through the network at once."""
        return 1 if self.is_tiled(shape) else self.arithmetic.batch_of(self.padded(shape))

    def is_tiled(self, shape: tuple[int, ...]) -> bool:
        """Return True where frames of this shape go through the network in tiles."""
        return self.arithmetic.is_tiled(self.padded(shape)) and can_tile(self.network)

    def padded(self, shape: tuple[int, ...]) -> Size:
        """Return the size, as the network takes it, of frames of this shape."""
        return padded_size((shape[0], shape[1]), self.multiple, self.least)

    def forward(self, frames: Sequence[np.ndarray]) -> Pending:
        """Begin the translation of frames of one size, `batch_of` them at most; on a CPU it is then done."""
        with torch.inference_mode(), _streams.next(self.arithmetic.device):
            return self._in_tiles(frames[0]) if self.is_tiled(frames[0].shape) else self._whole(frames)

    def _whole(self, frames: Sequence[np.ndarray]) -> Pending:
        arithmetic, (height, width) = self.arithmetic, frames[0].shape[:2]
        padding = [frames[-1]] * (self.batch_of(frames[0].shape) - len(frames))
        pixels = from_pixels(_upload([*frames, *padding], arithmetic.device))
        input_NCHW = pad_by_reflection(pixels, self.multiple, self.least).to(_dtype(arithmetic))
        network = self.compiled.get(self.padded(frames[0].shape), self.network)
        output_NCHW = network(input_NCHW)[: len(frames), :, :height, :width].float()
        finite_N = output_NCHW.isfinite().flatten(1).all(1)
        output_NCHW = to_pixels(output_NCHW, getattr(torch, self.gives.dtype.name))
        pixels_NHWC, finite_N = (_download(x) for x in (output_NCHW.permute(0, 2, 3, 1).contiguous(), finite_N))
        done = torch.cuda.current_stream().record_event() if arithmetic.device == "cuda" else None
        return Pending(pixels_NHWC, finite_N, done)

    def _in_tiles(self, frame: np.ndarray) -> Pending:
        """Translate a picture that stays in the host's memory, as its translation does."""
        arithmetic, (height, width), padded = self.arithmetic, frame.shape[:2], self.padded(frame.shape)
        device, dtype = torch.device(arithmetic.device), getattr(torch, self.gives.dtype.name)
        rows, columns = mirrored(height, padded[0]).numpy(), mirrored(width, padded[1], device)

        def read(start: int, stop: int) -> torch.Tensor:
            pixels = from_pixels(_upload([frame[rows[start:stop]]], arithmetic.device))
            return (pixels if len(columns) == width else pixels[:, :, :, columns]).to(_dtype(arithmetic))

        count = arithmetic.tiles_of(padded)
        made = tiled(self.network, Rows(padded[0], read), count, lambda: made_progress(0))
        pixels_HWC, finite = torch.empty(self.gives.shape(height, width), dtype=dtype), True
        for start, stop in strips(height, count):
            output_NCHW = made.read(start, stop)[:, :, :, :width].float()
            finite = finite and bool(output_NCHW.isfinite().all())
            pixels_HWC[start:stop] = to_pixels(output_NCHW, dtype)[0].permute(1, 2, 0)
            made_progress(0)  # a picture counts when all of it is done
        return Pending(pixels_HWC[None], torch.tensor([finite]), None)


def _dtype(arithmetic: Arithmetic) -> torch.dtype:
    return torch.bfloat16 if arithmetic.precision == "bf16" else torch.float32


@dataclass(frozen=True)
class Pending:
    """Translations of one group on their way back from the device."""

    pixels: torch.Tensor
    """Pixels, [N, H, W, C]."""
    finite: torch.Tensor
    """Truth for each translation, [N]: all its values were finite."""
    done: torch.cuda.Event | None

    def results(self) -> list[np.ndarray | None]:
        """Wait for the translation of each frame, in memory of its own; None where it is not finite."""
        pixels_NHWC = self.pixels.numpy()
        if self.done:
            self.done.synchronize()
            pixels_NHWC = pixels_NHWC.copy()  # page-locked memory is scarce
        finite_N = self.finite.tolist()
        return [frame if finite else None for frame, finite in zip(pixels_NHWC, finite_N, strict=True)]


class _Streams(threading.local):
    """Streams of each thread, taken in turn, so that one group is copied while another is computed."""

    @functools.cached_property
    def _turns(self) -> Iterator[torch.cuda.Stream]:
        return itertools.cycle([torch.cuda.Stream() for _ in range(AHEAD + 1)])

    def next(self, device: str) -> contextlib.AbstractContextManager[object]:
        """Return the context of the next stream; of none on a CPU."""
        return torch.cuda.stream(next(self._turns)) if device == "cuda" else contextlib.nullcontext()


_streams = _Streams()


def _upload(frames: Sequence[np.ndarray], device: str) -> torch.Tensor:
    """Return frames of one size as [N, C, H, W] on `device`, on their way there by the current stream."""
    shape, dtype = (len(frames), *frames[0].shape), torch.from_numpy(np.empty(0, frames[0].dtype)).dtype
    host_NHWC = torch.empty(shape, dtype=dtype, pin_memory=device == "cuda")
    np.stack(frames, out=host_NHWC.numpy())
    return host_NHWC.to(device, non_blocking=True).permute(0, 3, 1, 2)


def _download(values: torch.Tensor) -> torch.Tensor:
    """Return values on their way to page-locked memory by the current stream; on a CPU they are there."""
    if values.device.type == "cpu":
        return values
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return host.copy_(values, non_blocking=True)
