"""Prefetch of each step's images to the device, ahead of the training thread.

A thread collects the images that have been read and decoded, and crops them or copies them to the GPU; it prepares at
most a few steps. The result is a function of (order, step) alone, whatever was asked for before.

A GPU gets whole images, as uint8 through pinned memory and on a separate stream; it does the crop, flip and
normalisation. On a CPU the thread does all of this without torch's threads, which belong to the training step.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.images import PixelType
from pipeline.models.bundles import pixel_types
from pipeline.stores import SourceChangedError
from pipeline.training.config.execution import memory_format_of
from pipeline.training.data import loader, node
from pipeline.training.data import order as ordering
from pipeline.training.data.context import Context
from pipeline.training.data.loader import ImageSet, TrainingDataError
from pipeline.training.data.order import Order, Samples, Side
from pipeline.training.data.reads import ReadMonitor
from pipeline.training.data.stream import StepImages, Stream
from pipeline.training.distributed.group import Group

log = logging.getLogger("transdomain")

_SIDES: tuple[Side, Side] = ("a", "b")
_PREFETCH_STEPS = 4
"""Number of steps that are prefetched. With several workers, each step waits for two of them; see `Feed.failure`."""
_JOIN_TIMEOUT_S = 1.0
"""Seconds to wait for the thread to end."""


class Data(Protocol):
    """Images of a rank, step by step."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the images and of their order in the store."""
        ...

    def pictures(self, start: int, stop: int) -> Generator[StepImages]:
        """Yield the images of each step from `start` to before `stop`."""
        ...


@dataclass(frozen=True, kw_only=True)
class InMemory:
    """Set that has been decoded into memory."""

    images: ImageSet
    order: Order
    group: Group

    @property
    def fingerprint(self) -> str:
        """Fingerprint of keys and encoded bytes."""
        return self.images.fingerprint

    def pictures(self, start: int, stop: int) -> Generator[StepImages]:
        """Yield views, without copying."""
        for step in range(start, stop):
            whole = ordering.global_batch(self.order, step)
            mine = whole.part(ordering.share(len(whole), self.group.rank, self.group.workers))
            yield StepImages(whole, mine, [self.images.a[i] for i in mine.a], [self.images.b[i] for i in mine.b])


def open_data(context: Context, reads: ReadMonitor) -> Data:
    """Open the data of this rank. All ranks must call this at the same time.

    Raises RunError, on every rank, where the set cannot be trained on; StorageError where reading fails.
    """
    config, group = context.config, context.group
    if config.streaming == "stream":
        stream = Stream(context, reads)
        log.info("%s", stream)
        return stream
    images = node.load_shared(context.sources, config.load_size, group, context.threads, reads=reads)
    return InMemory(images=images, order=context.order, group=group)


@dataclass(frozen=True, kw_only=True)
class StepBatch:
    """Input of a rank in one step."""

    epoch: int
    samples: int
    """Number of samples of the global batch."""
    real_a: Tensor
    """Tensor [n, 3, C, C] in [-1, 1], on the device, with n samples of this rank; one black image where n is 0."""
    real_b: Tensor


class Feed:
    """Batches by step; batches of consecutive steps are prefetched.

    Raises, in the thread that asks, what reading and decoding raise. `failure` reports permanent errors in advance, so
    that no rank comes to a step that another one cannot take. This is a context manager, which ends the thread.
    """

    def __init__(self, data: Data, context: Context, reads: ReadMonitor) -> None:
        self._data, self._reads = data, reads
        self._cropper = _Cropper(context)
        self._stop = context.total_steps
        self._prefetcher: _Prefetcher | None = None
        self._next = -1

    def batch(self, step: int) -> StepBatch:
        """Return this rank's part of the global batch of `step`, a step of the run."""
        prefetcher = self._prefetch_from(step)
        self._reads.until(prefetcher.wait)
        self._next = step + 1
        return self._cropper.finish(prefetcher.take())

    def failure(self, step: int, count: int) -> str:
        """Return the permanent error in the images of the `count` steps from `step` on; empty if there is none.

        Waits until these images are prepared. Errors that may pass, such as a storage that does not answer, are left to
        `batch`.
        """
        count = min(count, self._stop - step)
        if count <= 0:
            return ""
        prefetcher = self._prefetch_from(step)
        self._reads.until(lambda timeout_s: prefetcher.wait(timeout_s, count))
        error = prefetcher.error(count)
        return str(error) if isinstance(error, TrainingDataError | SourceChangedError) else ""

    def _prefetch_from(self, step: int) -> _Prefetcher:
        """Return the prefetcher whose next step is `step`."""
        if self._prefetcher is None or step != self._next:
            self.close()
            self._prefetcher, self._next = _Prefetcher(self._prepared(step), _PREFETCH_STEPS), step
        return self._prefetcher

    def close(self) -> None:
        """End the thread; a read that does not return is abandoned."""
        if self._prefetcher:
            self._prefetcher.close()
        self._prefetcher = None

    def _prepared(self, step: int) -> Generator[_Prepared]:
        with contextlib.closing(self._data.pictures(step, self._stop)) as pictures:
            yield from map(self._cropper.prepare, pictures)

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass(frozen=True)
class _Prepared:
    """Input of the networks; on a GPU it is ready once `done` has occurred."""

    whole: Samples
    a: Tensor
    b: Tensor
    done: torch.cuda.Event | None = None
    """Event recorded on the stream that prepared the tensors."""


class _Cropper:
    """Cropping of decoded images to the input of the networks."""

    def __init__(self, context: Context) -> None:
        config, device = context.config, context.device
        self._order, self._device, self._crop_size, self._flip = context.order, device, config.crop_size, config.flip
        self._types: dict[Side, PixelType] = dict(zip(_SIDES, pixel_types(config.generator), strict=True))
        self._max_offset = config.load_size - config.crop_size
        self._memory_format = memory_format_of(config, device)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def prepare(self, pictures: StepImages) -> _Prepared:
        """Crop on a CPU, or copy to a GPU and crop there. Runs in the prefetch thread."""
        if self._stream is None:
            crops = [
                loader.cut(*self._to_augment(pictures, side), self._crop_size, self._types[side]) for side in _SIDES
            ]
            a, b = (loader.to_input_on_one_thread(pixels, self._memory_format) for pixels in crops)
            return _Prepared(pictures.whole, a, b)
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            a, b = (self._to_gpu(pictures, side) for side in ("a", "b"))
            return _Prepared(pictures.whole, a, b, self._stream.record_event())

    def finish(self, prepared: _Prepared) -> StepBatch:
        """Return the batch once it can be used. Runs in the training thread."""
        if prepared.done:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(prepared.done)
            for tensor in (prepared.a, prepared.b):
                tensor.record_stream(current)  # else their memory could be reused before they are read
        whole = prepared.whole
        return StepBatch(epoch=whole.epoch, samples=len(whole), real_a=prepared.a, real_b=prepared.b)

    def _to_augment(self, pictures: StepImages, side: Side) -> tuple[list[np.ndarray], ordering.Augmentation]:
        augmentation = ordering.augmentation(self._order, pictures.mine, side, room=self._max_offset, flip=self._flip)
        return (pictures.a if side == "a" else pictures.b), augmentation

    def _to_gpu(self, pictures: StepImages, side: Side) -> Tensor:
        images, augmentation = self._to_augment(pictures, side)
        if images:
            images_nSSC = loader.to_device(torch.from_numpy(np.stack(images)), self._device)
            crops = loader.cut_on_device(images_nSSC, augmentation, self._crop_size)
        else:
            crops = loader.cut(images, augmentation, self._crop_size, self._types[side])
        return loader.to_input(crops, self._device, self._memory_format)


class _Prefetcher:
    """Iterator that a thread runs a few items ahead."""

    def __init__(self, items: Generator[_Prepared], limit: int) -> None:
        self._limit = limit
        self._ready: deque[_Prepared] = deque()
        self._error: BaseException | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(items,), name="training-feed", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float, count: int = 1) -> bool:
        """Return True where `count` items are ready, or no more will come, within that time."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._ready) >= count or bool(self._error), timeout_s)

    def error(self, count: int) -> BaseException | None:
        """Return what the iterator raised instead of one of the next `count` items. Call `wait` first."""
        with self._changed:
            return self._error if len(self._ready) < count else None

    def take(self) -> _Prepared:
        """Return the next item, or raise what the iterator raised. Call `wait` first."""
        with self._changed:
            if not self._ready:
                assert self._error
                raise self._error
            self._changed.notify_all()
            return self._ready.popleft()

    def close(self) -> None:
        """Let the thread end as soon as it notices."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(_JOIN_TIMEOUT_S)

    def _run(self, items: Generator[_Prepared]) -> None:
        try:
            with contextlib.closing(items):
                for item in items:
                    with self._changed:
                        self._ready.append(item)
                        self._changed.notify_all()
                        self._changed.wait_for(lambda: len(self._ready) < self._limit or self._closed)
                        if self._closed:
                            return
            raise IndexError("asked for a step beyond the run's last")
        except BaseException as error:  # raised again where the item is asked for
            with self._changed:
                self._error = error
                self._changed.notify_all()
