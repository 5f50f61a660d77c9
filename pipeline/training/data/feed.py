"""The images of each step on their way to the device, prepared ahead of the training thread.

A thread collects what is read and decoded and cuts or copies it; at most a few steps are prepared. What comes out is a
function of (order, step) alone, whatever was asked for before.

To a GPU go whole images, as uint8 through pinned memory and on a stream of their own; crop, flip and normalisation are
done there. On a CPU the thread does all of it without torch's threads, which belong to the training step.
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

from pipeline.stores import SourceChangedError
from pipeline.training.data import loader, node
from pipeline.training.data import order as ordering
from pipeline.training.data.context import Context
from pipeline.training.data.loader import ImageSet, TrainingDataError
from pipeline.training.data.order import Order, Samples, Side
from pipeline.training.data.reads import ReadMonitor
from pipeline.training.data.stream import Pictures, Stream
from pipeline.training.distributed.group import Group

log = logging.getLogger("transdomain")

_STEPS_AHEAD = 4
"""Two of them are waited for before each step of several workers: see `Feed.failure`."""
_PATIENCE_S = 1.0
"""For a thread that should end."""


class Data(Protocol):
    """The images of a rank, step by step."""

    @property
    def fingerprint(self) -> str:
        """Of the images, and of their order in the store."""
        ...

    def pictures(self, start: int, stop: int) -> Generator[Pictures]:
        """Those of each step from `start` to before `stop`."""
        ...


@dataclass(frozen=True, kw_only=True)
class InMemory:
    """A set that is decoded already."""

    images: ImageSet
    order: Order
    group: Group

    @property
    def fingerprint(self) -> str:
        """Of keys and encoded bytes."""
        return self.images.fingerprint

    def pictures(self, start: int, stop: int) -> Generator[Pictures]:
        """Views, no copies."""
        for step in range(start, stop):
            whole = ordering.global_batch(self.order, step)
            mine = whole.part(ordering.share(len(whole), self.group.rank, self.group.workers))
            yield Pictures(whole, mine, [self.images.a[i] for i in mine.a], [self.images.b[i] for i in mine.b])


def open_data(context: Context, reads: ReadMonitor) -> Data:
    """Open the data of this rank. All ranks call it at once.

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
    """What a rank trains on in one step."""

    epoch: int
    samples: int
    """Of the global batch."""
    real_a: Tensor
    """[n, 3, C, C] in [-1, 1], on the device, n being this rank's samples; one black image where it has none."""
    real_b: Tensor


class Feed:
    """Batches, asked for by step; asked for one after the other, they are prepared ahead.

    Raises what reading and decoding raise, in the thread that asks. What is wrong for good can be asked for before
    (`failure`), so that no rank comes to a step that another one cannot take. A context manager, which ends the thread.
    """

    def __init__(self, data: Data, context: Context, reads: ReadMonitor) -> None:
        self._data, self._reads = data, reads
        self._cutting = _Cutting(context)
        self._stop = context.total_steps
        self._ahead: _Ahead | None = None
        self._next = -1

    def batch(self, step: int) -> StepBatch:
        """This rank's part of the global batch of `step`, which is below the run's last."""
        ahead = self._from(step)
        self._reads.until(ahead.wait)
        self._next = step + 1
        return self._cutting.finish(ahead.take())

    def failure(self, step: int, count: int) -> str:
        """What is wrong for good with the images of `step` or of the `count` - 1 steps after it; empty if nothing is.

        Waits until they are prepared. What may pass, such as a storage that does not answer, is left to `batch`.
        """
        count = min(count, self._stop - step)
        if count <= 0:
            return ""
        ahead = self._from(step)
        self._reads.until(lambda timeout_s: ahead.wait(timeout_s, count))
        error = ahead.error(count)
        return str(error) if isinstance(error, TrainingDataError | SourceChangedError) else ""

    def _from(self, step: int) -> _Ahead:
        """What prepares `step` next."""
        if self._ahead is None or step != self._next:
            self.close()
            self._ahead, self._next = _Ahead(self._prepared(step), _STEPS_AHEAD), step
        return self._ahead

    def close(self) -> None:
        """End the thread; a read that does not return is left behind."""
        if self._ahead:
            self._ahead.close()
        self._ahead = None

    def _prepared(self, step: int) -> Generator[_Prepared]:
        with contextlib.closing(self._data.pictures(step, self._stop)) as pictures:
            yield from map(self._cutting.prepare, pictures)

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass(frozen=True)
class _Prepared:
    """What the networks take; on a GPU, what they can take once `done` has come."""

    whole: Samples
    a: Tensor
    b: Tensor
    done: torch.cuda.Event | None = None
    """Recorded on the stream that made them."""


class _Cutting:
    """From decoded images to what the networks take."""

    def __init__(self, context: Context) -> None:
        config, device = context.config, context.device
        self._order, self._device, self._crop_size, self._flip = context.order, device, config.crop_size, config.flip
        self._room = config.load_size - config.crop_size
        self._memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def prepare(self, pictures: Pictures) -> _Prepared:
        """In the thread that works ahead."""
        if self._stream is None:
            crops = [loader.cut(*self._how(pictures, side), self._crop_size) for side in ("a", "b")]
            a, b = (loader.to_input_on_one_thread(pixels, self._memory_format) for pixels in crops)
            return _Prepared(pictures.whole, a, b)
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            a, b = (self._to_gpu(pictures, side) for side in ("a", "b"))
            return _Prepared(pictures.whole, a, b, self._stream.record_event())

    def finish(self, prepared: _Prepared) -> StepBatch:
        """In the training thread."""
        if prepared.done:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(prepared.done)
            for tensor in (prepared.a, prepared.b):
                tensor.record_stream(current)  # else their memory could be used again before they have been read
        whole = prepared.whole
        return StepBatch(epoch=whole.epoch, samples=len(whole), real_a=prepared.a, real_b=prepared.b)

    def _how(self, pictures: Pictures, side: Side) -> tuple[list[np.ndarray], ordering.Augmentation]:
        how = ordering.augmentation(self._order, pictures.mine, side, room=self._room, flip=self._flip)
        return (pictures.a if side == "a" else pictures.b), how

    def _to_gpu(self, pictures: Pictures, side: Side) -> Tensor:
        images, how = self._how(pictures, side)
        if images:
            whole = loader.to_device(torch.from_numpy(np.stack(images)), self._device)
            crops = loader.cut_on_device(whole, how, self._crop_size)
        else:
            crops = loader.cut(images, how, self._crop_size)
        return loader.to_input(crops, self._device, self._memory_format)


class _Ahead:
    """An iterator that is run ahead in a thread, by a few items."""

    def __init__(self, items: Generator[_Prepared], most: int) -> None:
        self._most = most
        self._ready: deque[_Prepared] = deque()
        self._error: BaseException | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(items,), name="training-feed", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float, count: int = 1) -> bool:
        """Whether there are `count` items, or will be no more, within that time."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._ready) >= count or bool(self._error), timeout_s)

    def error(self, count: int) -> BaseException | None:
        """After `wait`: what the iterator raised instead of one of the next `count` items."""
        with self._changed:
            return self._error if len(self._ready) < count else None

    def take(self) -> _Prepared:
        """The next item, after `wait`; raises what the iterator raised."""
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
        self._thread.join(_PATIENCE_S)

    def _run(self, items: Generator[_Prepared]) -> None:
        try:
            with contextlib.closing(items):
                for item in items:
                    with self._changed:
                        self._ready.append(item)
                        self._changed.notify_all()
                        self._changed.wait_for(lambda: len(self._ready) < self._most or self._closed)
                        if self._closed:
                            return
            raise IndexError("asked for a step beyond the run's last")
        except BaseException as error:  # raised again where the item is asked for
            with self._changed:
                self._error = error
                self._changed.notify_all()
