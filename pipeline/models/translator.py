"""Translation of pixels by a generator, in groups of frames of one size, and the attribution of faults."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from gan_models import GeneratorConfig, translation_mode, with_winograd_trunk
from gan_models.pixels import from_pixels, pad_by_reflection, padded_size, to_pixels
from pipeline.cluster import hardware, memory
from pipeline.cluster.watchdog import made_progress
from pipeline.images import RGB, PixelType
from pipeline.models.arithmetic import Arithmetic, Size
from pipeline.models.bundles import pixel_types
from pipeline.models.compiled import Package
from pipeline.models.ends import with_fast_ends
from pipeline.models.native import with_native_trunk

_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "status_alloc_failed")
"""Messages, in lower case, of allocators that have no exception of their own."""

_NOT_FINITE = "the translation has values that are no finite numbers"


def prepare(generator: nn.Module, arithmetic: Arithmetic) -> nn.Module:
    """Return `generator` ready to translate eagerly: on its device, in its precision, with its trunk.

    `generator` stays as it is. The result follows its training only where it needs no other weights: on a CPU, in fp32.
    """
    dtype = torch.bfloat16 if arithmetic.precision == "bf16" else torch.float32
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
class Translator:
    """A generator that translates frames: the one way from pixels to pixels, in every job and in training."""

    network: Callable[[torch.Tensor], torch.Tensor]
    """Made by `prepare`."""
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

    @classmethod
    def of(cls, generator: nn.Module, config: GeneratorConfig, arithmetic: Arithmetic) -> Translator:
        """Return the translator of a generator of this architecture.

        Raises CannotCompileError where `arithmetic` has compiled sizes that this machine's cache lacks, and no compiler
        makes them.
        """
        network, (takes, gives) = prepare(generator, arithmetic), pixel_types(config)
        compiled = {
            size: Package.of(network, (arithmetic.batch_of(size), config.in_channels, *size), arithmetic).load()
            for size in arithmetic.compiled
        }
        return cls(network, arithmetic, config.size_multiple, config.least_size, takes, gives, compiled)

    def __call__(
        self, frames: Sequence[np.ndarray], into: Sequence[np.ndarray] | None = None
    ) -> tuple[dict[int, np.ndarray], dict[int, str]]:
        """Translate frames ([height, width, channels], any sizes); return translations and faults by position.

        Translations are put `into` these arrays, one a frame and of its size, where they are given.

        Frames of one size go through the network together, always `arithmetic.batch_of` them (the last group is
        padded), so that no image's pixels depend on the other images. Where `arithmetic.is_alone` says so of the size,
        each thread of a CPU takes a group of its own. Mirroring grows each frame to a `multiple`, and to at least
        `least` pixels a side.

        Two faults count as a frame's own. The first is a ValueError, which torch raises for a shape that a layer cannot
        take: the group is halved until only the faulty frame is left. The second is a result that is not finite, where
        another image of the same size has a finite one. All other errors are the machine's, and are raised.
        MemoryError names the shape, and is raised where a group does not fit even by itself, after all unused memory
        was freed. The group is never made smaller, because that could change its pixels.

        Raises TypeError where a frame's pixels are not of the type that the network takes.
        """
        if other := {found for frame in frames if (found := PixelType.of(frame)) != self.takes}:
            raise TypeError(f"the network takes {self.takes}, not {' or '.join(map(str, other))}")
        translated: dict[int, np.ndarray] = {}
        faults: dict[int, str] = {}
        under_way = deque[tuple[Sequence[int], Callable[[], _Parts | None]]]()
        short_of_memory = list[Sequence[int]]()
        suspect = set[tuple[int, ...]]()
        ahead = _AHEAD if self.arithmetic.device == "cuda" else 0

        def settle(left: int = 0) -> None:
            """Take what comes back from the device or the threads, until so many groups are `left` there."""
            while len(under_way) > left:
                group, wait = under_way.popleft()
                if parts := wait():
                    take(parts)
                else:
                    short_of_memory.append(group)

        def take(parts: _Parts) -> None:
            for group, part in parts:
                for i, result in zip(group, [part] if isinstance(part, str) else part.results(), strict=True):
                    if result is None:
                        suspect.add(frames[i].shape)
                        faults[i] = _NOT_FINITE
                    elif isinstance(result, str):
                        faults[i] = result
                    elif into is None:
                        translated[i] = result
                    else:
                        into[i][...] = result
                        translated[i] = into[i]
                made_progress(len(group))

        def begin(group: Sequence[int], threads: int | None) -> None:
            settle(ahead)
            with hardware.torch_threads(threads):
                parts = _parts(self, frames, group, settle)
            under_way.append((group, lambda: parts))
            settle(ahead)

        with contextlib.ExitStack() as unneeded:
            # One unit after the other: if the groups of several took turns, all would end at once, and the device would
            # wait until others have come.
            with _one_unit:
                for group in _groups([f.shape for f in frames], self.batch_of):
                    if self.arithmetic.device == "cpu":
                        memory.note_size(self._padded(frames[group[0]].shape))
                    if self.arithmetic.is_alone(self._padded(frames[group[0]].shape)):
                        future = _pool(self.arithmetic.threads or 1).submit(_parts_if_memory, self, frames, group)
                        unneeded.callback(future.cancel)
                        under_way.append((group, future.result))
                    else:
                        begin(group, self.arithmetic.threads)
            settle()
            for again in short_of_memory:  # in the same shape, while no other thread needs any
                begin(again, 1)
            for shape in suspect:
                _prove_network(self, shape)
        return translated, faults

    def batch_of(self, shape: tuple[int, ...]) -> int:
        """Return the number of frames of this shape, [height, width, channels], that go through the network at once."""
        return self.arithmetic.batch_of(self._padded(shape))

    def _padded(self, shape: tuple[int, ...]) -> Size:
        return padded_size((shape[0], shape[1]), self.multiple, self.least)

    def all(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Return the translations of frames of one size, [N, H, W, C]. Raises RuntimeError where one fails."""
        translated, faults = self(frames)
        if faults:
            raise RuntimeError(f"image {min(faults)} cannot be translated: {faults[min(faults)]}")
        return np.stack([translated[i] for i in range(len(frames))])


def _groups(shapes: Sequence[tuple[int, ...]], size_of: Callable[[tuple[int, ...]], int]) -> Iterator[list[int]]:
    """Yield the positions of frames of equal shape, at most `size_of(shape)` at a time, in order."""
    order = sorted(range(len(shapes)), key=lambda i: (shapes[i], i))
    for shape, same in itertools.groupby(order, key=lambda i: shapes[i]):
        positions, size = list(same), size_of(shape)
        for first in range(0, len(positions), size):
            yield positions[first : first + size]


def _parts(
    translator: Translator, frames: Sequence[np.ndarray], group: Sequence[int], settle: Callable[[], object]
) -> _Parts:
    """Begin the translation of a group; where a layer cannot take it, of its halves, down to the frames at fault."""
    try:
        return [(group, _with_memory(translator, [frames[i] for i in group], settle))]
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        if len(group) == 1:
            return [(group, f"ValueError: {' '.join(str(error).split())}"[:300])]
    halves = group[: len(group) // 2], group[len(group) // 2 :]
    return [part for half in halves for part in _parts(translator, frames, half, settle)]


def _parts_if_memory(translator: Translator, frames: Sequence[np.ndarray], group: Sequence[int]) -> _Parts | None:
    """Return what `_parts` does; None where memory is short, without the error, which would hold what was allocated."""
    try:
        return _parts(translator, frames, group, lambda: None)
    except MemoryError:
        return None


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return threads of which each translates its own images, in torch's operations without help of the others."""
    return ThreadPoolExecutor(threads, "translate", _compute_alone)


def _compute_alone() -> None:
    """Let this thread compute without others from now on."""
    torch.get_num_threads()  # otherwise its first operation would set the number of the whole process again
    torch.set_num_threads(1)


def _with_memory(translator: Translator, frames: Sequence[np.ndarray], settle: Callable[[], object]) -> _Pending:
    """Return the result of `_forward`; where memory is short, `settle`, free unused memory and try once more."""
    arithmetic = translator.arithmetic
    with contextlib.suppress(MemoryError), _as_memory_error(frames[0].shape, arithmetic):
        return _forward(translator, frames)
    settle()
    gc.collect()
    if arithmetic.device == "cuda":
        torch.cuda.empty_cache()
    with _as_memory_error(frames[0].shape, arithmetic):
        return _forward(translator, frames)


@contextlib.contextmanager
def _as_memory_error(shape: tuple[int, ...], arithmetic: Arithmetic) -> Iterator[None]:
    """Raise MemoryError in place of each error by which torch reports that memory is short."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        short = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in text for words in _NO_MEMORY)
        if not short:
            raise
        height, width = shape[:2]
        images = f"{arithmetic.batch_of((height, width))} images of {width} × {height} pixels"
        raise MemoryError(
            f"{images} at once are too much for the memory of this {arithmetic.device}; run on a machine with more, or "
            "into another output with a smaller --batch or size"
        ) from error


def _prove_network(translator: Translator, shape: tuple[int, ...]) -> None:
    """Raise ArithmeticError where the network gives no finite numbers for an ordinary image of this shape either."""
    ramp = np.linspace(0, translator.takes.peak, int(np.prod(shape))).astype(translator.takes.dtype).reshape(shape)
    if _with_memory(translator, [ramp], lambda: None).results()[0] is None:
        raise ArithmeticError(f"{_NOT_FINITE}, whatever the image: the model or the device is at fault")


@dataclass(frozen=True)
class _Pending:
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


_Parts = Sequence[tuple[Sequence[int], _Pending | str]]
"""Positions of frames, each with their translations, or of one frame with its fault."""


def _forward(translator: Translator, frames: Sequence[np.ndarray]) -> _Pending:
    """Begin the translation of frames of one size; on a CPU it is then done."""
    arithmetic, (height, width) = translator.arithmetic, frames[0].shape[:2]
    dtype = torch.bfloat16 if arithmetic.precision == "bf16" else torch.float32
    with torch.inference_mode(), _streams.next(arithmetic.device):
        padding = [frames[-1]] * (translator.batch_of(frames[0].shape) - len(frames))
        pixels = from_pixels(_upload([*frames, *padding], arithmetic.device))
        input_NCHW = pad_by_reflection(pixels, translator.multiple, translator.least).to(dtype)
        height_width = (input_NCHW.shape[2], input_NCHW.shape[3])
        network = translator.compiled.get(height_width, translator.network)
        output_NCHW = network(input_NCHW)[: len(frames), :, :height, :width].float()
        finite_N = output_NCHW.isfinite().flatten(1).all(1)
        output_NCHW = to_pixels(output_NCHW, getattr(torch, translator.gives.dtype.name))
        pixels_NHWC, finite_N = (_download(x) for x in (output_NCHW.permute(0, 2, 3, 1).contiguous(), finite_N))
        done = torch.cuda.current_stream().record_event() if arithmetic.device == "cuda" else None
    return _Pending(pixels_NHWC, finite_N, done)


_AHEAD = 1
"""Groups that a GPU is given before the last one is back, so that it never waits for Python."""

_one_unit = threading.Lock()


class _Streams(threading.local):
    """Streams of each thread, taken in turn, so that one group is copied while another is computed."""

    @functools.cached_property
    def _turns(self) -> Iterator[torch.cuda.Stream]:
        return itertools.cycle([torch.cuda.Stream() for _ in range(_AHEAD + 1)])

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
