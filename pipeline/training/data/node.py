"""A set that is decoded once a node: its workers decode a part each, into memory that all of them see.

The memory is a file without a name (memfd), so nothing of it is left when its processes are killed, and the size of
/dev/shm does not limit it. The other workers open it through /proc/PID/fd, as long as the first one holds it open.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.stores import SourceChangedError
from pipeline.training.data import loader
from pipeline.training.data.loader import Chunk, ImageSet, Sources
from pipeline.training.data.reads import DaemonPool, ReadMonitor
from pipeline.training.distributed.group import Group, RunError

log = logging.getLogger("transdomain")


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


def allocate(size: int) -> Memory:
    """`size` bytes of memory; of a temporary file, with a line in the log, where this machine has less.

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
            log.info(
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


def load_shared(sources: Sources, load_size: int, group: Group, threads: int, *, reads: ReadMonitor) -> ImageSet:
    """Decode the set into memory that the workers of each node share. All ranks call it at once.

    Raises RunError, on every rank, where there is no room or an image is bad; StorageError where reading fails.
    """
    nodes = group.gather(group.node)
    ranks = [rank for rank, node in enumerate(nodes) if node == group.node]
    shapes = [(side.images, load_size, load_size, 3) for side in (sources.a, sources.b)]
    sizes = [int(np.prod(shape)) for shape in shapes]
    memory = None
    try:
        with group.agreeing():
            if group.rank == ranks[0]:
                memory = _allocate_or_end(sum(sizes))
        paths = group.gather(memory.path if memory else "")
        shared = attach(paths[ranks[0]], sum(sizes))
        a_NSSC, b_NSSC = (part.reshape(shape) for part, shape in zip(np.split(shared, sizes[:1]), shapes, strict=True))
        chunks = loader.chunks_of(sources)
        mine = range(ranks.index(group.rank), len(chunks), len(ranks))
        with group.agreeing(ValueError, SourceChangedError):
            digests = _decode([chunks[i] for i in mine], a_NSSC, b_NSSC, threads, reads)
        # The ranks of one node have all chunks among them.
        everywhere = group.gather(dict(zip(mine, digests, strict=True)) if nodes[0] == group.node else {})
    finally:
        if memory:
            memory.release()
    by_chunk = {i: digest for part in everywhere for i, digest in part.items()}
    fingerprint = loader.fingerprint_of(sources, [by_chunk[i] for i in range(len(chunks))])
    return ImageSet(a=a_NSSC, b=b_NSSC, fingerprint=fingerprint)


def _allocate_or_end(size: int) -> Memory:
    try:
        return allocate(size)
    except OSError as error:
        raise RunError(
            f"no room for the decoded set of {size / 1e9:.1f} GB: {error}; set streaming to stream"
        ) from error


def _decode(
    chunks: list[Chunk], a_NSSC: np.ndarray, b_NSSC: np.ndarray, threads: int, reads: ReadMonitor
) -> list[list[bytes]]:
    """Digests of the rows of each chunk."""

    def decode(chunk: Chunk) -> list[bytes]:
        with reads.reading(chunk.ranges[0].url):
            return loader.decode_chunk(chunk, a_NSSC, b_NSSC)

    with DaemonPool(threads) as pool:
        return [reads.result(future) for future in [pool.submit(decode, chunk) for chunk in chunks]]
