"""Operations on objects (read, create exclusively, replace whole, remove), and a check that a prefix fits an output."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from typing import IO, cast

from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.errors import StorageError, UserError
from pipeline.storage import client, cloud, clouds, s3
from pipeline.storage.clouds.bodies import RangeFile
from pipeline.storage.entries import Entry
from pipeline.storage.exclusive import (
    WAYS,
    create_in_memory,
    create_local,
    in_folder,
    on_disk,
    sync_directory,
    temporary_name,
    write_synced,
)
from pipeline.storage.listing import stat_file
from pipeline.storage.retry import BadBody, retrying
from pipeline.storage.urls import filesystem, join
from pipeline.storage.walk import version_of


def read(url: str, *, size: int | None = None, version: str | None = None) -> bytes:
    """Return the whole object, checked against what the server says about it, and against `size` and `version`.

    Raises FileNotFoundError where it is missing, StorageError where it cannot be read or has changed, and DamagedError
    where its size stays wrong.
    """
    fs, path = filesystem(url)
    if client.is_s3(fs):
        return s3.read(fs, path, url, size=size, version=version)
    if (store := clouds.of(fs)) is not None:
        return cloud.read(store, fs, path, url, size=size, version=version)

    def attempt() -> bytes:
        if isinstance(fs, LocalFileSystem):
            data, found = _of_disk(path)
        else:
            data, found = fs.cat_file(path, **client.in_time(fs, url)), None
        if version is not None and version != (found or _version_now(url)):
            raise StorageError(f"{url}: changed while it was read")
        if size is not None and len(data) != size:
            raise BadBody(f"read {len(data)} bytes of {size}")
        return data

    with on_disk(url):
        return retrying(attempt, url)


def _of_disk(path: str) -> tuple[bytes, str]:
    """Return the content of a file, and its version."""
    with open(path, "rb", buffering=0) as file:
        return file.readall(), version_of(os.fstat(file.fileno()))


def _version_now(url: str) -> str | None:
    entry = stat_file(url)
    return entry.version if entry else None


def read_if_there(url: str) -> bytes | None:
    """Return the whole object, or None where it is missing."""
    try:
        return read(url)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def open_read(url: str, known: Entry | None = None) -> Iterator[IO[bytes]]:
    """Open a seekable file for range reads. Errors name the object; a server's faults are retried range by range.

    `known` is the object's entry, where it was listed or looked up just now; a server is then not asked for it again,
    and an object that is another one by now is an error.

    Only the code that decodes the bytes can see that they are damaged: wrap the whole use of the file in `retrying`.
    """
    fs, path = filesystem(url)
    store = clouds.of(fs)
    if client.is_s3(fs) or store is not None:
        entry = known or stat_file(url)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url)

        def fetch(start: int, stop: int, twice: bool) -> bytes:
            if store is not None:
                return cloud.read_range(store, fs, path, url, start, stop, entry.version, twice=twice)
            return s3.read_range(fs, path, url, start, stop, entry.version, twice=twice)

        yield cast(IO[bytes], RangeFile(entry.size, fetch))
        return
    options = {} if isinstance(fs, LocalFileSystem | MemoryFileSystem) else {"cache_type": "none"}
    with fs.open(path, "rb", **options) as file:
        yield file


# --- writing -----------------------------------------------------------------------------------------------------


def create(url: str, data: bytes) -> bool:
    """Create the object at `url` exclusively, whole or not at all.

    Returns False where the name is taken. The cause may be our own earlier write whose answer got lost. So a caller
    must conclude nothing else from False: read what is there and continue with that.
    """
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        with on_disk(url):
            return in_folder(path, lambda: create_local(path, data))
    if isinstance(fs, MemoryFileSystem):
        return create_in_memory(fs, path, data)
    store = clouds.of(fs)
    try:
        if store is not None:
            cloud.put(store, fs, path, url, data, exclusive=True)
        else:
            s3.put(fs, path, url, data, exclusive=True)
    except FileExistsError:
        return False
    return True


def replace(url: str, data: bytes) -> None:
    """Write the object at `url` whole, over whatever is there."""
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        with on_disk(url):
            in_folder(path, lambda: _replace_local(path, data))
    elif client.is_s3(fs):
        s3.put(fs, path, url, data, exclusive=False)
    elif (store := clouds.of(fs)) is not None:
        cloud.put(store, fs, path, url, data, exclusive=False)
    else:
        retrying(lambda: fs.pipe_file(path, data, **client.in_time(fs, url)), url)


def _replace_local(path: str, data: bytes) -> None:
    temporary = temporary_name(path)
    try:
        write_synced(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_directory(path)


def grow(url: str, data: bytes, published: int) -> None:
    """Publish `data`, whose first `published` bytes are at `url` already. Allows a single writer.

    On a local disk the rest is appended, so that a reader with the file open sees it grow; a kill may leave a part of
    it. Elsewhere the object is replaced whole. A new attempt overwrites what a failed one has appended, and a file that
    was removed is written whole.
    """
    fs, path = filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        return replace(url, data)
    with on_disk(url):
        descriptor = in_folder(path, lambda: os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
        with open(descriptor, "wb") as file:
            start = published if os.fstat(file.fileno()).st_size >= published else 0
            file.seek(start)
            file.write(data[start:])
    return None


def delete(url: str) -> None:
    """Remove the object at `url`; do nothing where there is none."""
    fs, path = filesystem(url)
    with contextlib.suppress(FileNotFoundError):
        if (store := clouds.of(fs)) is not None:
            cloud.delete(store, fs, path, url)
        else:
            client.retrying_on(fs, lambda: fs.rm_file(path, **client.in_time(fs, url)), url)


def age_s(url: str, now: float) -> float | None:
    """Return the seconds between the object's last change and `now` (of time.time()), or None where it is gone."""
    fs, path = filesystem(url)
    try:
        if client.is_s3(fs):
            info = client.retrying_on(fs, lambda: fs.info(path, **client.in_time(fs, url)), url)
            return now - info["LastModified"].timestamp()
        if (store := clouds.of(fs)) is not None:
            changed = cloud.look_up(store, fs, path, url).changed
            return None if changed is None else now - changed
        return now - retrying(lambda: fs.modified(path), url).timestamp()
    except FileNotFoundError:
        return None


def list_unfinished_uploads(url: str) -> list[s3.Upload]:
    """Return multipart uploads below `url` that nobody completed, sorted by name; only S3 has them.

    No write of this package leaves one behind, but other tools and earlier versions do.
    """
    fs, path = filesystem(url)
    return s3.list_uploads(fs, path, url) if client.is_s3(fs) else []


def abort_upload(upload: s3.Upload) -> None:
    """Remove the parts of an unfinished upload; do nothing where it is gone."""
    fs, path = filesystem(upload.url)
    with contextlib.suppress(FileNotFoundError):
        s3.abort(fs, path, upload)


def check_output(url: str) -> None:
    """Prove that objects can be created exclusively at `url`. Leaves nothing behind.

    Raises UserError where the filesystem lacks or ignores such a primitive, or where nothing can be written.
    """
    fs, _ = filesystem(url)
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    way = next((way for way in WAYS if way.schemes & {*protocols}), None)
    if way is None:
        possible = ", ".join(f"{way.name} ({way.url})" for way in WAYS if way.url)
        raise UserError(f"{url}: {protocols[0]} has no exclusive create that this version knows; write to {possible}")
    probe = join(url, f"_transdomain/tmp/.probe-{uuid.uuid4().hex}.tmp")
    made = _missing_folders(filesystem(probe)[1]) if isinstance(fs, LocalFileSystem) else []
    try:
        # Nobody else knows the name: if it is taken, our own first write took it and its answer was lost.
        written = create(probe, b"probe") or read(probe) == b"probe"
        exclusive = not create(probe, b"second") and read(probe) == b"probe"
        delete(probe)
    except (OSError, StorageError) as error:
        raise UserError(f"{url}: cannot be written ({error}); give an output that can") from error
    if not (written and exclusive):
        raise UserError(f"{url}: this server ignores {way.condition}, so two writers could overwrite each other")
    with contextlib.suppress(OSError):  # not empty: somebody else writes here, too
        for folder in made:
            os.rmdir(folder)


def _missing_folders(path: str) -> list[str]:
    """Return the missing parent folders of `path`, the innermost first."""
    missing = []
    while not os.path.lexists(path := os.path.dirname(path)):
        missing.append(path)
    return missing
