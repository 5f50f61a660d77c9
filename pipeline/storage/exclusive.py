"""Exclusive creation on each filesystem: one winner among any number of writers, and never a truncated object.

fsspec's own `mode="create"` is `exists()` followed by a plain write on local disks, in `memory://`, and wherever a
filesystem does not override it. So these get implementations of their own, object stores get requests with a condition
(`s3.put`, `cloud.put`), and every other filesystem is refused. `WAYS` has them all.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from fsspec.implementations.memory import MemoryFileSystem

from pipeline.errors import StorageError

_TAKES_NO_MORE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}

_ATTEMPTS = 5
"""Times to make a folder that others remove."""

T = TypeVar("T")


class Way(NamedTuple):
    """Way in which an object is created exclusively on one kind of filesystem."""

    name: str
    schemes: frozenset[str]
    """Schemes of its URLs, as fsspec has them."""
    url: str
    """Form of an output's URL; empty where no job writes there."""
    how: str
    condition: str
    """Condition of the request that creates an object; empty where it is no request."""
    tried: str
    """What has shown that it holds."""


WAYS = (
    Way(
        "a disk",
        frozenset({"file", "local"}),
        "/PATH",
        "an unnamed file (`O_TMPFILE`) is written, synced and linked; where the disk has none, a temporary one",
        "",
        "races of threads and of processes; kills at every write",
    ),
    Way(
        "memory",
        frozenset({"memory"}),
        "",
        "a lock within the process; for library calls only",
        "",
        "races of threads",
    ),
    Way(
        "S3",
        frozenset({"s3", "s3a"}),
        "s3://BUCKET/PREFIX",
        "one PUT with `If-None-Match: *`",
        "If-None-Match",
        "SeaweedFS: races, kills at every write, lost answers, a server that stops",
    ),
    Way(
        "Google Cloud Storage",
        frozenset({"gs", "gcs"}),
        "gs://BUCKET/PREFIX",
        "one upload with `ifGenerationMatch=0`",
        "ifGenerationMatch",
        "fake-gcs-server: races, kills, lost answers, a server that stops; not the service itself",
    ),
    Way(
        "Azure",
        frozenset({"az", "abfs", "abfss"}),
        "az://CONTAINER/PREFIX",
        "one Put Blob with `If-None-Match: *`",
        "If-None-Match",
        "the protocol alone, against answers as they are documented; no real server",
    ),
)
"""Filesystems that a job may write to. Each output is probed before any work, too: see `check_output`."""

_memory_lock = threading.Lock()


@contextlib.contextmanager
def on_disk(url: str, remedy: str = "free some space, or give another output") -> Iterator[None]:
    """Add the object's name to errors that a disk raises, and a remedy where the disk is full or read-only.

    Raises StorageError for a disk that cannot take more data.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _TAKES_NO_MORE:
            raise StorageError(f"{url}: {error.strerror}; {remedy}, then run the same command again") from error
        if error.filename is None and error.errno is not None:
            error.filename = url
        raise


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock of a file on a local disk, which is made where it is missing; wait while another process has it."""
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def in_folder(path: str, write: Callable[[], T]) -> T:
    """Make the folder of `path` and return what `write` returns.

    Both are done again where the folder vanishes in between: a run that is only about to begin removes those that it
    has made and found empty.
    """
    for left in reversed(range(_ATTEMPTS)):
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return write()
        except FileNotFoundError:
            if not left:
                raise
    raise AssertionError("unreachable")


def create_in_memory(fs: MemoryFileSystem, path: str, data: bytes) -> bool:
    """Create the object with no other thread of this process in between; return False where the name is taken."""
    with _memory_lock:
        if fs.exists(path):
            return False
        fs.pipe_file(path, data)
        return True


def create_local(path: str, data: bytes) -> bool:
    """Sync an unnamed temporary file and link it, or a named one where the disk has none; False where it is taken."""
    directory = os.path.dirname(path)
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_WRONLY, 0o644)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        return create_local_named(path, data)
    # The unnamed file lives as long as a descriptor of it is open; `dst_dir_fd` makes CPython follow the /proc link.
    duplicate, parent = os.dup(descriptor), os.open(directory, os.O_RDONLY)
    try:
        write_synced(descriptor, data)
        os.link(f"/proc/self/fd/{duplicate}", os.path.basename(path), dst_dir_fd=parent, follow_symlinks=True)
        os.fsync(parent)
    except FileExistsError:
        return False
    finally:
        os.close(duplicate)
        os.close(parent)
    return True


def create_local_named(path: str, data: bytes) -> bool:
    """Write a named temporary file, sync it and link it; return False where the name is taken."""
    temporary = temporary_name(path)
    try:
        write_synced(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), data)
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    sync_directory(path)
    return True


def temporary_name(path: str) -> str:
    """Return a unique name next to `path` that readers ignore."""
    directory, base = os.path.split(path)
    return os.path.join(directory, f".{base[:64]}.{uuid.uuid4().hex}.tmp")


def write_synced(descriptor: int, data: bytes) -> None:
    """Write all of `data`, wait until it is on the disk, and close the descriptor."""
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())


def sync_directory(path: str) -> None:
    """Wait until the name of `path` is on the disk."""
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
