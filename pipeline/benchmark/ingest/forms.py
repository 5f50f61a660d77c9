"""Measure reading and decoding from each form that outputs can have, beside decoding the same images from memory.

Both are done by as many processes as the machine has cores, of one thread each. All files are in the system's cache.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import simplejpeg

from pipeline import images, storage
from pipeline.benchmark.basis.running import Contender, running
from pipeline.cluster import host
from pipeline.stores import open_store, read_rows
from pipeline.stores.forms import naming
from pipeline.stores.forms.form import WritableForm
from pipeline.stores.forms.registry import writable_forms
from pipeline.stores.tables.ranges import Range
from pipeline.stores.tables.schema import image_array

BARE = "decode alone"
_ROWS = 256
"""Rows of a shard, and of what is read at a time."""


@dataclass(frozen=True)
class BareDecode:
    """Loop of one process over JPEG files in its memory, by the fast decoder, with nothing around it."""

    files: tuple[bytes, ...]
    count: int

    def prepare(self) -> Callable[[], int]:
        """Return the repetition."""

        def repetition() -> int:
            for i in range(self.count):
                simplejpeg.decode_jpeg(self.files[i % len(self.files)])
            return self.count

        return repetition


@dataclass(frozen=True)
class ReadAndDecode:
    """Loop of one process over every so many-th part of a store, which it reads and decodes as a stage does."""

    url: str
    part: int
    parts: int

    def prepare(self) -> Callable[[], int]:
        """Return the repetition."""
        pieces = list(in_pieces(open_store(self.url).ranges))[self.part :: self.parts]

        def repetition() -> int:
            count = 0
            for piece in pieces:
                rows = read_rows(piece)
                for chunk in rows["image"].chunks:
                    for data in chunk.field("bytes"):
                        images.decode(memoryview(data.as_buffer()))
                        count += 1
            return count

        return repetition


def in_pieces(ranges: Sequence[Range]) -> Iterator[list[Range]]:
    """Yield the ranges of a store in runs of some hundred rows, as units have them."""
    piece, rows = list[Range](), 0
    for each in ranges:
        piece.append(each)
        rows += each.rows
        if rows >= _ROWS:
            yield piece
            piece, rows = [], 0
    if piece:
        yield piece


@contextlib.contextmanager
def measurements(scratch: str, files: Sequence[bytes], count: int) -> Iterator[dict[str, Callable[[], float]]]:
    """Write `count` of these images in each form; yield what measures each, and decoding alone, in images/s."""
    processes = host.available_cpus()
    share = -(-count // processes)
    groups: dict[str, list[Contender]] = {BARE: [BareDecode(tuple(files), share) for _ in range(processes)]}
    for form in writable_forms():
        url = storage.join(scratch, form.name)
        write_store(form, url, files, count)
        groups[f"from {form.name}"] = [ReadAndDecode(url, part, processes) for part in range(processes)]
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(_together(group, share * processes if name == BARE else count))
            for name, group in groups.items()
        }


@contextlib.contextmanager
def _together(group: Sequence[Contender], count: int) -> Iterator[Callable[[], float]]:
    """Start a process for each contender; yield a function that runs all at once and returns their common rate."""
    with contextlib.ExitStack() as stack:
        ones = [stack.enter_context(running(each, host.WORKER_ENVIRONMENT)) for each in group]
        pool = stack.enter_context(ThreadPoolExecutor(len(ones)))

        def measure() -> float:
            began_s = time.perf_counter()
            list(pool.map(lambda one: one(), ones))
            return count / (time.perf_counter() - began_s)

        yield measure


def write_store(form: WritableForm, url: str, files: Sequence[bytes], count: int) -> None:
    """Write a store of this form with `count` images."""
    for first in range(0, count, _ROWS):
        which = range(first, min(first + _ROWS, count))
        keys = [f"{i:08d}" for i in which]
        table = pa.table({"key": keys, "image": image_array([files[i % len(files)] for i in which], keys)})
        data, apart = form.encode(table, {}, "image", "jpg")
        if not form.names_are_keys:
            storage.replace(storage.join(url, f"000000-{first:06d}{form.ending}"), data)
        for key, content in apart.items():
            storage.replace(storage.join(url, naming.file_name(key, "jpg")), content.to_pybytes())
