"""Objects are read, created exclusively, replaced whole and removed; and a prefix is proved to be fit for an output."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from typing import IO

from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.errors import StorageError, UserError
from pipeline.retry import retrying
from pipeline.storage.exclusive import (
    create_in_memory,
    create_local,
    create_on_s3,
    sync_directory,
    temporary_name,
    write_synced,
)
from pipeline.storage.urls import filesystem, join


def read(url: str) -> bytes:
    """The whole object. Raises FileNotFoundError where it is missing, StorageError where it cannot be read."""
    fs, path = filesystem(url)
    return retrying(lambda: fs.cat_file(path), url)


def read_if_there(url: str) -> bytes | None:
    """The whole object, or None where it is missing."""
    try:
        return read(url)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def open_read(url: str) -> Iterator[IO[bytes]]:
    """A seekable file for range reads; wrap the whole use of it in `retrying`."""
    fs, path = filesystem(url)
    options = {} if isinstance(fs, LocalFileSystem | MemoryFileSystem) else {"cache_type": "none"}
    with fs.open(path, "rb", **options) as file:
        yield file


# --- writing -----------------------------------------------------------------------------------------------------


def create(url: str, data: bytes) -> bool:
    """Create the object at `url` exclusively, whole or not at all.

    Returns False where the name is taken. That can be our own write whose answer was lost on the way, so a caller
    never concludes anything from False but this: read what is there and go on with that.
    """
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        return create_local(path, data)
    if isinstance(fs, MemoryFileSystem):
        return create_in_memory(fs, path, data)
    return retrying(lambda: create_on_s3(fs, path, data), url)


def replace(url: str, data: bytes) -> None:
    """Write the object at `url` whole, over whatever is there."""
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = temporary_name(path)
        try:
            write_synced(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), data)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        sync_directory(path)
    else:
        retrying(lambda: fs.pipe_file(path, data), url)


def grow(url: str, data: bytes, published: int) -> None:
    """Publish `data`, whose first `published` bytes are at `url` already. For one writer.

    On a local disk the rest is appended, so that who has the file open sees it grow, and a kill may leave a part of
    it; elsewhere the object is replaced whole. What an attempt that failed has appended is written over, and a file
    that somebody has removed is written whole.
    """
    fs, path = filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        return replace(url, data)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), "wb") as file:
        start = published if os.fstat(file.fileno()).st_size >= published else 0
        file.seek(start)
        file.write(data[start:])
    return None


def delete(url: str) -> None:
    """Remove the object at `url`; nothing happens where there is none."""
    fs, path = filesystem(url)
    with contextlib.suppress(FileNotFoundError):
        retrying(lambda: fs.rm_file(path), url)


def age_s(url: str, now: float) -> float | None:
    """Seconds between the last change of the object and `now` (of time.time()); None where it is gone."""
    fs, path = filesystem(url)
    try:
        return now - retrying(lambda: fs.modified(path), url).timestamp()
    except FileNotFoundError:
        return None


def check_output(url: str) -> None:
    """Prove that objects can be created exclusively at `url`. Leaves nothing behind.

    Raises UserError where the filesystem has no such primitive or ignores it, or nothing can be written there.
    """
    fs, _ = filesystem(url)
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    if not isinstance(fs, LocalFileSystem | MemoryFileSystem) and "s3" not in protocols:
        raise UserError(f"{url}: {protocols[0]} has no exclusive create that this version knows; write to a disk or S3")
    probe = join(url, f"_transdomain/tmp/.probe-{uuid.uuid4().hex}.tmp")
    try:
        exclusive = create(probe, b"probe") and not create(probe, b"second")
        delete(probe)
    except (OSError, StorageError) as error:
        raise UserError(f"{url}: cannot be written ({error}); give an output that can") from error
    if not exclusive:
        raise UserError(f"{url}: this server ignores If-None-Match, so two writers could overwrite each other")
    if isinstance(fs, LocalFileSystem):
        with contextlib.suppress(OSError):  # not empty: somebody else writes here, too
            os.rmdir(os.path.dirname(filesystem(probe)[1]))
            os.rmdir(os.path.dirname(os.path.dirname(filesystem(probe)[1])))
