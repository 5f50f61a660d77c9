"""Streaming of a unit whose decoded images are more than a process may hold: a part of them at a time.

While one part is translated, others are decoded, and the one before is encoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from pipeline.cluster import host
from pipeline.engine.records.account import Batch, joined
from pipeline.translate.stages import Decode, Encode

PARTS = 8
"""Parts of the bound on decoded bytes that one part of a unit takes: its images come, are there, and go."""

Step = Callable[[Batch], Batch]


class Part(NamedTuple):
    """Consecutive rows of a unit."""

    batch: Batch
    size: int
    """Bytes of its decoded images."""


def parts_of(batch: Batch, sizes: Sequence[int], most: int) -> Iterator[Part]:
    """Cut a batch into parts of at most `most` decoded bytes, or of one row; `sizes` are those of its rows.

    The parts have no quarantined or skipped rows.
    """
    start, held = 0, 0
    for i, size in enumerate(sizes):
        if i > start and held + size > most:
            yield Part(Batch(batch.unit, batch.rows.slice(start, i - start)), held)
            start, held = i, 0
        held += size
    if start < len(sizes):
        yield Part(Batch(batch.unit, batch.rows.slice(start)), held)


def streamed(
    batch: Batch, sizes: Sequence[int], decode: Step, translate: Step, encode: Step, *, most: int, threads: int
) -> Batch:
    """Return `batch` after the three steps, which it goes through in parts.

    `sizes` are the bytes of the rows' decoded images. At most `most` decoded bytes, or the images of one row, are held
    at once, each counted twice: before and after it is translated. Decoding and encoding take so many `threads` each;
    translation is done in this one, in order. Raises what a step raises.
    """
    coming, going = deque[tuple[Future[Batch], int]](), deque[tuple[Future[Batch], int]]()
    done, held = list[Batch](), 0

    def advance() -> int:
        """Translate the next part, and wait for the encoding of the one before it; return the bytes that are free."""
        if coming:
            decoded, size = coming.popleft()
            going.append((encoders.submit(encode, translate(decoded.result())), size))
        if coming and len(going) < 2:
            return 0
        encoded, size = going.popleft()
        done.append(encoded.result())
        return 2 * size

    with ThreadPoolExecutor(threads, "decode") as decoders, ThreadPoolExecutor(threads, "encode") as encoders:
        try:
            for part, size in parts_of(batch, sizes, most // PARTS):
                while held and held + 2 * size > most:
                    held -= advance()
                coming.append((decoders.submit(decode, part), size))
                held += 2 * size
            while coming or going:
                advance()
        finally:
            for waiting, _ in (*coming, *going):
                waiting.cancel()
    return joined(batch, done)


class Stream:
    """Stage that holds a model: it translates decoded images, and streams those of a unit that comes encoded."""

    def __init__(self, translate: Callable[[Batch], Batch], decode: Decode, encode: Encode, most: int) -> None:
        """Stream at most so many bytes of decoded images at once, or one image."""
        self._translate, self._decode, self._encode, self._most = translate, decode, encode, most

    def __call__(self, batch: Batch) -> Batch:
        if batch.pixels is not None:
            return self._translate(batch)
        return streamed(
            batch,
            self._decode.sizes(batch),
            self._decode.decode,
            self._translate,
            self._encode.encode,
            most=self._most,
            threads=max(1, min(_MOST_THREADS, host.available_cpus() // 2)),
        )


_MOST_THREADS = 8
"""Threads of a process that decode, and as many that encode."""
