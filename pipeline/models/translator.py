"""Translation of pixels by a generator, in groups of frames of one size, and the attribution of faults."""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from pipeline.cluster import hardware, memory
from pipeline.cluster.watchdog import made_progress
from pipeline.images import PixelType
from pipeline.models.arithmetic import Arithmetic
from pipeline.models.forward import AHEAD, Pending, PreparedGenerator

_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "status_alloc_failed")
"""Messages, in lower case, of allocators that have no exception of their own."""

_NOT_FINITE = "the translation has values that are no finite numbers"


class Translator(PreparedGenerator):
    """A generator that translates frames: the one way from pixels to pixels, in every job and in training."""

    def __call__(
        self, frames: Sequence[np.ndarray], into: Sequence[np.ndarray] | None = None
    ) -> tuple[dict[int, np.ndarray], dict[int, str]]:
        """Translate frames ([height, width, channels], any sizes); return translations and faults by position.

        Translations are put `into` these arrays, one a frame and of its size, where they are given.

        Frames of one size go through the network together, always `batch_of` them (the last group is padded), so that
        no image's pixels depend on the other images. Where `arithmetic.is_alone` says so of the size, each thread of a
        CPU takes a group of its own. Pictures above `arithmetic.tile_pixels` go through it in tiles, with the
        statistics of the whole picture. Mirroring grows each frame to a `multiple`, and to at least `least` pixels a
        side.

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
        ahead = AHEAD if self.arithmetic.device == "cuda" else 0

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
                made_progress(len(group) if self.counts_rows else 0)

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
                        memory.note_size(self.padded(frames[group[0]].shape))
                    if self.arithmetic.is_alone(self.padded(frames[group[0]].shape)):
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


def _with_memory(translator: Translator, frames: Sequence[np.ndarray], settle: Callable[[], object]) -> Pending:
    """Return the result of a pass; where memory is short, `settle`, free unused memory and try once more."""
    arithmetic = translator.arithmetic
    with contextlib.suppress(MemoryError), _as_memory_error(translator, frames[0].shape):
        return translator.forward(frames)
    settle()
    gc.collect()
    if arithmetic.device == "cuda":
        torch.cuda.empty_cache()
    with _as_memory_error(translator, frames[0].shape):
        return translator.forward(frames)


@contextlib.contextmanager
def by_itself(arithmetic: Arithmetic) -> Iterator[None]:
    """Let nothing else of this process compute on the device inside the block, and use the threads of the record."""
    with _one_unit, hardware.torch_threads(arithmetic.threads):
        yield


@contextlib.contextmanager
def _as_memory_error(translator: Translator, shape: tuple[int, ...]) -> Iterator[None]:
    """Raise MemoryError in place of each error by which torch reports that memory is short."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        short = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in text for words in _NO_MEMORY)
        if not short:
            raise
        height, width = shape[:2]
        images = f"{translator.batch_of(shape)} images of {width} × {height} pixels"
        smaller = "--tile_megapixels" if translator.is_tiled(shape) else "--batch, --tile_megapixels or size"
        raise MemoryError(
            f"{images} at once are too much for the memory of this {translator.arithmetic.device}; run on a machine "
            f"with more, or into another output with a smaller {smaller}"
        ) from error


_RAMP = 1 << 20
"""Values of the longest ramp of an ordinary image."""


def _prove_network(translator: Translator, shape: tuple[int, ...]) -> None:
    """Raise ArithmeticError where the network gives no finite numbers for an ordinary image of this shape either."""
    values = min(int(np.prod(shape)), _RAMP)
    ramp = np.resize(np.linspace(0, translator.takes.peak, values).astype(translator.takes.dtype), shape)
    if _with_memory(translator, [ramp], lambda: None).results()[0] is None:
        raise ArithmeticError(f"{_NOT_FINITE}, whatever the image: the model or the device is at fault")


_Parts = Sequence[tuple[Sequence[int], Pending | str]]
"""Positions of frames, each with their translations, or of one frame with its fault."""


_one_unit = threading.Lock()
