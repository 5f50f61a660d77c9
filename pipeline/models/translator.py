"""From pixels to pixels by a generator: groups of frames of one size, and whose fault it is where that fails."""

from __future__ import annotations

import contextlib
import gc
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from gan_models import translation_mode, with_winograd_trunk
from gan_models.pixels import from_uint8, pad_by_reflection, to_uint8
from pipeline.cluster.hardware import Trunk
from pipeline.cluster.watchdog import got_on

_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "status_alloc_failed")
"""How allocators say it that have no exception of their own, in small letters."""

_NOT_FINITE = "the translation has values that are no finite numbers"


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """All that decides, beside the weights, which pixels come out. Fixed before the first unit."""

    device: str
    precision: str
    threads: int | None
    """Those of a CPU, whose number decides the order of some sums, and so a last bit; None on a GPU."""
    compile: bool
    trunk: Trunk
    """How a ResNet's residual blocks convolve."""
    batch: int
    """Images that go through the generator at once; a smaller group is padded, so that the shape never changes."""


def prepare(generator: nn.Module, arithmetic: Arithmetic) -> nn.Module:
    """`generator` as it translates: on its device, in its precision, compiled where that is asked for."""
    dtype = torch.bfloat16 if arithmetic.precision == "bf16" else torch.float32
    network = translation_mode(generator).to(arithmetic.device, dtype)
    if arithmetic.trunk == "winograd":
        network = with_winograd_trunk(network)
    if arithmetic.device == "cuda" or arithmetic.compile:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return torch.compile(network, dynamic=False) if arithmetic.compile else network  # type: ignore[return-value]


def translate_frames(
    network: nn.Module, frames: Sequence[np.ndarray], multiple: int, arithmetic: Arithmetic, *, least: int = 1
) -> tuple[dict[int, np.ndarray], dict[int, str]]:
    """The translation of each frame (uint8 [height, width, 3], any sizes), and what is wrong with the others.

    Frames of one size go through the network together, always `arithmetic.batch` of them (the last group is padded),
    so that no image's pixels depend on which others there are. They are grown to a `multiple`, and to `least` pixels a
    side, by mirroring.

    Two faults are a frame's own. A ValueError is what torch raises for a shape that a layer cannot take: the group is
    halved down to the frame at fault. A result that is no number is a frame's where another picture of its size has a
    finite one. All other errors are the machine's, and are raised: MemoryError, with the shape, where there is none
    left for a group after everything unused was given back (never a smaller group, whose pixels may be others).
    """
    translated: dict[int, np.ndarray] = {}
    faults: dict[int, str] = {}

    def attempt(group: Sequence[int]) -> None:
        try:
            results = _with_memory(network, [frames[i] for i in group], multiple, least, arithmetic)
        except ValueError as error:
            if type(error) is not ValueError:
                raise
            if len(group) > 1:
                attempt(group[: len(group) // 2])
                attempt(group[len(group) // 2 :])
            else:
                faults[group[0]] = f"ValueError: {' '.join(str(error).split())}"[:300]
            return
        for i, result in zip(group, results, strict=True):
            if result is None:
                _prove_network(network, frames[i].shape, multiple, least, arithmetic)
                faults[i] = _NOT_FINITE
            else:
                translated[i] = result
        got_on()

    for group in _groups([f.shape for f in frames], arithmetic.batch):
        attempt(group)
    return translated, faults


def _groups(shapes: Sequence[tuple[int, ...]], size: int) -> Iterator[list[int]]:
    """Positions of frames of equal shape, at most `size` at a time, in order."""
    order = sorted(range(len(shapes)), key=lambda i: (shapes[i], i))
    for _, same in itertools.groupby(order, key=lambda i: shapes[i]):
        positions = list(same)
        for first in range(0, len(positions), size):
            yield positions[first : first + size]


def _with_memory(
    network: nn.Module, frames: Sequence[np.ndarray], multiple: int, least: int, arithmetic: Arithmetic
) -> list[np.ndarray | None]:
    """What `_forward` gives, at the second attempt where memory is short at the first."""
    with contextlib.suppress(MemoryError), _as_memory_error(frames[0].shape, arithmetic):
        return _forward(network, frames, multiple, least, arithmetic)
    gc.collect()
    if arithmetic.device == "cuda":
        torch.cuda.empty_cache()
    with _as_memory_error(frames[0].shape, arithmetic):
        return _forward(network, frames, multiple, least, arithmetic)


@contextlib.contextmanager
def _as_memory_error(shape: tuple[int, ...], arithmetic: Arithmetic) -> Iterator[None]:
    """Raise MemoryError in place of all the errors by which torch says that memory is short."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        short = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in text for words in _NO_MEMORY)
        if not short:
            raise
        raise MemoryError(
            f"{arithmetic.batch} images of {shape[1]} × {shape[0]} pixels at once are too much for the memory of this "
            f"{arithmetic.device}; run on a machine with more, or into another output with a smaller --batch or size"
        ) from error


def _prove_network(
    network: nn.Module, shape: tuple[int, ...], multiple: int, least: int, arithmetic: Arithmetic
) -> None:
    """Raise ArithmeticError where the network gives no finite numbers for an ordinary picture of this shape either."""
    ramp = np.linspace(0, 255, int(np.prod(shape))).astype(np.uint8).reshape(shape)
    if _with_memory(network, [ramp], multiple, least, arithmetic)[0] is None:
        raise ArithmeticError(f"{_NOT_FINITE}, whatever the image: the model or the device is at fault")


def _forward(
    network: Callable[[torch.Tensor], torch.Tensor],
    frames: Sequence[np.ndarray],
    multiple: int,
    least: int,
    arithmetic: Arithmetic,
) -> list[np.ndarray | None]:
    """The translation of each frame, all of one size; None where it is not finite."""
    height, width = frames[0].shape[:2]
    padded = [*frames, *[frames[-1]] * (arithmetic.batch - len(frames))]
    pixels_NCHW = torch.from_numpy(np.stack(padded)).permute(0, 3, 1, 2)
    dtype = torch.bfloat16 if arithmetic.precision == "bf16" else torch.float32
    with torch.inference_mode():
        input_NCHW = pad_by_reflection(from_uint8(pixels_NCHW.to(arithmetic.device)), multiple, least).to(dtype)
        output_NCHW = network(input_NCHW)[: len(frames), :, :height, :width].float()
        finite_N = output_NCHW.isfinite().flatten(1).all(1)
        output_NHWC = to_uint8(output_NCHW).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return [frame if finite else None for frame, finite in zip(output_NHWC, finite_N.tolist(), strict=True)]
