"""Bodies of requests and answers: sent in pieces while somebody watches, and read by ranges that are checked."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from pipeline.storage.clouds.base import BadBody

T = TypeVar("T")

_PIECE = 262_144


class Watched(io.BytesIO):
    """Body in memory that records when its last piece was taken."""

    def __init__(self, data: bytes) -> None:
        """Begin at the first byte; a sent body is closed, so each attempt needs one of its own."""
        super().__init__(data)
        self.moved_s = time.monotonic()

    def read(self, size: int | None = -1) -> bytes:
        self.moved_s = time.monotonic()
        return super().read(size)


class Pieces:
    """Body of several parts that are sent one after the other, in pieces, without being joined in memory."""

    def __init__(self, *parts: bytes) -> None:
        self._parts: Sequence[bytes] = parts
        self.moved_s = time.monotonic()

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            for start in range(0, len(part), _PIECE):
                self.moved_s = time.monotonic()
                yield part[start : start + _PIECE]


async def while_moving(call: Awaitable[T], body: object, patience_s: float) -> T:
    """Return the answer to a request. Raises TimeoutError where its body makes no progress, or no answer follows it.

    Neither a client's timers nor the system's run while a stalled server is waited for.
    """
    task, begun = asyncio.ensure_future(call), time.monotonic()
    try:
        while True:
            left = getattr(body, "moved_s", begun) + patience_s - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"nothing was sent or answered for {patience_s:g} s")
            done, _ = await asyncio.wait({task}, timeout=max(left, 0.01))
            if done:
                return task.result()
    finally:
        task.cancel()


def in_range(data: bytes, said: str | None, start: int, stop: int) -> bytes:
    """Return bytes `start` to `stop` of an object from an answer with this Content-Range.

    Raises BadBody where the answer has others.
    """
    if said is None:  # a server or cache without range support sends everything
        data = data[start:stop]
    elif not said.startswith(f"bytes {start}-{stop - 1}/"):
        raise BadBody(f"asked for bytes {start} to {stop - 1}, answered with {said}")
    if len(data) != stop - start:
        raise BadBody(f"read {len(data)} bytes of {stop - start} from {start}")
    return data


def read_twice(once: Callable[[], bytes], what: str) -> Callable[[], bytes]:
    """Return a function that reads until two answers, of all that came, are the same.

    It raises BadBody where they differ, and goes on to compare with what came before when it is called again.
    """
    seen = set[bytes]()

    def attempt() -> bytes:
        while True:
            data = once()
            if data in seen:
                return data
            seen.add(data)
            if len(seen) > 1:
                raise BadBody(f"{what} came differently when read twice")

    return attempt


class RangeFile(io.RawIOBase):
    """Seekable file of one object, read by ranges.

    A range that reaches the end is read twice and compared: no checksum of Parquet's own covers what it keeps there.
    """

    def __init__(self, size: int, fetch: Callable[[int, int, bool], bytes]) -> None:
        """`fetch(start, stop, twice)` returns the bytes from `start` to before `stop`."""
        self._size, self._fetch = size, fetch
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._size, self._at + size)
        if stop <= self._at:
            return b""
        data = self._fetch(self._at, stop, stop > self._size - 9)
        self._at = stop
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)
