"""Set that is decoded once per node: the node's workers each decode a part, into memory that all of them share.

The memory is an unnamed file (memfd), so nothing of it is left behind when its processes are killed, and the size of
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
    """Memory that other processes of this machine can open, until it is released."""

    path: str
    descriptor: int
    named: bool

    def release(self) -> None:
        """Close the memory once all have opened it; it is freed with the last process that uses it."""
        os.close(self.descriptor)
        if self.named:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)


def allocate(size: int) -> Memory:
    """Allocate `size` bytes of memory. Where this machine has less, use a temporary file and log it.

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
            os.posix_fallocate(descriptor, 0, size)  # report a full disk here, not as a fault in a write to memory
    except BaseException:
        memory.release()
        raise
    return memory


def attach(path: str, size: int) -> np.ndarray:
    """Return the memory that another process of this machine has allocated, uint8 [size]."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        return np.frombuffer(mmap.mmap(descriptor, size), np.uint8)
    finally:
        os.close(descriptor)


def available_memory() -> int:
    """Return the bytes available without swapping, according to the kernel and the control group."""
    found = []
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")))
    with contextlib.suppress(OSError, ValueError):
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found, default=2**62)


def load_shared(sources: Sources, load_size: int, group: Group, threads: int, *, reads: ReadMonitor) -> ImageSet:
    """Decode the set into memory that the workers of each node share. All ranks must call this at the same time.

    Raises RunError, on every rank, where there is no room or an image cannot be decoded; StorageError where reading
    fails.
    """
    nodes = group.gather(group.node)
    ranks = [rank for rank, node in enumerate(nodes) if node == group.node]
    sides = (sources.a, sources.b)
    sizes = [side.decoded_bytes(load_size) for side in sides]
    memory = None
    try:
        with group.raise_on_all_ranks():
            if group.rank == ranks[0]:
                memory = _allocate_or_raise(sum(sizes))
        paths = group.gather(memory.path if memory else "")
        shared = attach(paths[ranks[0]], sum(sizes))
        a_NSSC, b_NSSC = (
            part.view(side.pixel_type.dtype).reshape(side.shape(load_size))
            for part, side in zip(np.split(shared, sizes[:1]), sides, strict=True)
        )
        chunks = loader.chunks_of(sources)
        own_chunks = range(ranks.index(group.rank), len(chunks), len(ranks))
        with group.raise_on_all_ranks(ValueError, SourceChangedError):
            digests = _decode([chunks[i] for i in own_chunks], a_NSSC, b_NSSC, threads, reads)
        # The ranks of one node decode all chunks between them.
        digests_by_rank = group.gather(dict(zip(own_chunks, digests, strict=True)) if nodes[0] == group.node else {})
    finally:
        if memory:
            memory.release()
    by_chunk = {i: digest for part in digests_by_rank for i, digest in part.items()}
    fingerprint = loader.fingerprint_of(sources, [by_chunk[i] for i in range(len(chunks))])
    return ImageSet(a=a_NSSC, b=b_NSSC, fingerprint=fingerprint)


def _allocate_or_raise(size: int) -> Memory:
    try:
        return allocate(size)
    except OSError as error:
        raise RunError(
            f"no room for the decoded set of {size / 1e9:.1f} GB: {error}; set streaming to stream"
        ) from error


def _decode(
    chunks: list[Chunk], a_NSSC: np.ndarray, b_NSSC: np.ndarray, threads: int, reads: ReadMonitor
) -> list[list[bytes]]:
    """Return the digests of the rows of each chunk."""

    def decode(chunk: Chunk) -> list[bytes]:
        with reads.reading(chunk.ranges[0].url):
            return loader.decode_chunk(chunk, a_NSSC, b_NSSC)

    with DaemonPool(threads) as pool:
        return [reads.result(future) for future in [pool.submit(decode, chunk) for chunk in chunks]]
