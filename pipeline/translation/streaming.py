"""Streaming of a unit whose decoded images are more than a process may hold: a part of them at a time.

While one part is translated, others are decoded, and the one before is encoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

from pipeline.cluster import host
from pipeline.engine.records.account import Batch, Made, batches_of, joined
from pipeline.translation.stages import Decode, Encode

PARTS = 8
"""Parts of the bound on decoded bytes that one part of a unit takes: its images come, are there, and go. Where each
image gets several translations, a part is so much smaller."""

Step = Callable[[Batch], Batch]
Translation = Callable[[Batch], Made]
"""Step that may make a batch for each of several units."""


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
            yield Part(Batch(batch.unit, batch.rows.slice(start, i - start), beside=batch.beside), held)
            start, held = i, 0
        held += size
    if start < len(sizes):
        yield Part(Batch(batch.unit, batch.rows.slice(start), beside=batch.beside), held)


def streamed(
    batch: Batch,
    sizes: Sequence[int],
    decode: Step,
    translate: Translation,
    encode: Step,
    *,
    most: int,
    threads: int,
    translations: int = 1,
) -> Made:
    """Return `batch` after the three steps, which it goes through in parts; one for each unit that `translate` makes.

    `sizes` are the bytes of the rows' decoded images. At most `most` decoded bytes, or the images of one row, are held
    at once, each counted before it is translated and once for each of its `translations`. Decoding and encoding take so
    many `threads` each; translation is done in this one, in order. Raises what a step raises.
    """
    coming, going = deque[tuple[Future[Batch], int]](), deque[tuple[Future[list[Batch]], int]]()
    done, held, copies = list[list[Batch]](), 0, 1 + translations

    def each_encoded(made: Made) -> list[Batch]:
        return [encode(each) for each in batches_of(made)]

    def advance() -> int:
        """Translate the next part, and wait for the encoding of the one before it; return the bytes that are free."""
        if coming:
            decoded, size = coming.popleft()
            going.append((encoders.submit(each_encoded, translate(decoded.result())), size))
        if coming and len(going) < 2:
            return 0
        encoded, size = going.popleft()
        done.append(encoded.result())
        return copies * size

    with ThreadPoolExecutor(threads, "decode") as decoders, ThreadPoolExecutor(threads, "encode") as encoders:
        try:
            for part, size in parts_of(batch, sizes, most // (PARTS * copies // 2)):
                while held and held + copies * size > most:
                    held -= advance()
                coming.append((decoders.submit(decode, part), size))
                held += copies * size
            while coming or going:
                advance()
        finally:
            for decoding, _ in coming:
                decoding.cancel()
            for encoding, _ in going:
                encoding.cancel()
    made = [joined(replace(batch, unit=parts[0].unit, beside=()), parts) for parts in zip(*done, strict=True)]
    return made[0] if len(made) == 1 else made


class Stream:
    """Stage that holds models: it translates decoded images, and streams those of a unit that comes encoded."""

    def __init__(
        self, translate: Translation, decode: Decode, encode: Encode, most: int, *, translations: int = 1
    ) -> None:
        """Stream at most so many bytes of decoded images at once, or one image; each gets so many translations."""
        self._translate, self._decode, self._encode, self._most = translate, decode, encode, most
        self._translations = translations

    def __call__(self, batch: Batch) -> Made:
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
            translations=self._translations,
        )


_MOST_THREADS = 8
"""Threads of a process that decode, and as many that encode."""
