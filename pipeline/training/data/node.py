"""A set that is decoded once a node: its workers decode a part each, into memory that all of them see.

The memory is a file without a name (memfd), so nothing of it is left when its processes are killed, and the size of
/dev/shm does not limit it. The other workers open it through /proc/PID/fd, as long as the first one holds it open.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.stores import SourceChangedError
from pipeline.training.data import loader
from pipeline.training.data.loader import Chunk, ImageSet, Sources
from pipeline.training.data.waiting import Pool, Waiting
from pipeline.training.distributed.group import Group


class Memory(NamedTuple):
    """Memory that other processes of this machine can open, too, until it is released."""

    path: str
    descriptor: int
    named: bool

    def release(self) -> None:
        """All have opened it: it goes with the last of them."""
        os.close(self.descriptor)
        if self.named:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)


def allocate(size: int, say: Callable[[str], None]) -> Memory:
    """`size` bytes of memory; of a temporary file, and that is said, where this machine has less.

    Raises OSError where the disk has less, too.
    """
    available = available_memory()
    named = not os.path.exists("/proc/self/fd")
    if hasattr(os, "memfd_create") and size <= available and not named:
        descriptor, path = os.memfd_create("transdomain-images"), ""
    else:
        descriptor, path = tempfile.mkstemp(prefix="transdomain-images-")
    memory = Memory(path if named else f"/proc/{os.getpid()}/fd/{descriptor}", descriptor, named)
    try:
        if path and not named:
            os.unlink(path)
        if size > available:
            say(
                f"the decoded set takes {size / 1e9:.1f} GB, and {available / 1e9:.1f} GB of memory are free: "
                f"it is kept in a temporary file in {tempfile.gettempdir()}"
            )
        os.ftruncate(descriptor, size)
        if path and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)  # a full disk is found here, not as a fault in a write to memory
    except BaseException:
        memory.release()
        raise
    return memory


def attach(path: str, size: int) -> np.ndarray:
    """uint8 [size], the memory that another process of this machine has allocated."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        return np.frombuffer(mmap.mmap(descriptor, size), np.uint8)
    finally:
        os.close(descriptor)


def available_memory() -> int:
    """Bytes that can be had without swapping, as far as the kernel and the control group say."""
    found = []
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")))
    with contextlib.suppress(OSError, ValueError):
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found, default=2**62)


def load_shared(
    sources: Sources, load_size: int, group: Group, threads: int, *, waiting: Waiting, say: Callable[[str], None]
) -> tuple[ImageSet | None, str]:
    """The decoded set, in memory shared by the workers of each node; or, on every rank, what is wrong with it.

    All ranks call it at once. Raises StorageError where reading fails.
    """
    nodes = group.gather(group.node)
    ranks = [rank for rank, node in enumerate(nodes) if node == group.node]
    shapes = [(side.images, load_size, load_size, 3) for side in (sources.a, sources.b)]
    sizes = [int(np.prod(shape)) for shape in shapes]
    memory, failure = None, ""
    if group.rank == ranks[0]:
        try:
            memory = allocate(sum(sizes), say)
        except OSError as error:
            failure = f"no room for the decoded set of {sum(sizes) / 1e9:.1f} GB: {error}; set streaming to stream"
    try:
        told = group.gather((memory.path if memory else "", failure))
        if failures := [failure for _, failure in told if failure]:
            return None, failures[0]
        shared = attach(told[ranks[0]][0], sum(sizes))
        a_NSSC, b_NSSC = (part.reshape(shape) for part, shape in zip(np.split(shared, sizes[:1]), shapes, strict=True))
        chunks = loader.chunks_of(sources)
        mine = range(ranks.index(group.rank), len(chunks), len(ranks))
        digests: list[list[bytes]] = []
        try:
            digests = _decode([chunks[i] for i in mine], a_NSSC, b_NSSC, threads, waiting)
        except (ValueError, SourceChangedError) as error:
            failure = str(error)
        everywhere = group.gather((failure, dict(zip(mine, digests, strict=False)) if nodes[0] == group.node else {}))
    finally:
        if memory:
            memory.release()
    if failures := [failure for failure, _ in everywhere if failure]:
        return None, failures[0]
    by_chunk = {i: digest for _, part in everywhere for i, digest in part.items()}
    fingerprint = loader.fingerprint_of(sources, [by_chunk[i] for i in range(len(chunks))])
    return ImageSet(a=a_NSSC, b=b_NSSC, fingerprint=fingerprint), ""


def _decode(
    chunks: list[Chunk], a_NSSC: np.ndarray, b_NSSC: np.ndarray, threads: int, waiting: Waiting
) -> list[list[bytes]]:
    """Digests of the rows of each chunk."""

    def decode(chunk: Chunk) -> list[bytes]:
        with waiting.reading(chunk.ranges[0].url):
            return loader.decode_chunk(chunk, a_NSSC, b_NSSC)

    with Pool(threads) as pool:
        return [waiting.result(future) for future in [pool.submit(decode, chunk) for chunk in chunks]]
