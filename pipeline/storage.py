"""A URL becomes a filesystem; objects are listed, read, created exclusively and replaced whole.

Nothing else in the package opens a path. What is notable here:

- `create` is a true conditional create: one winner, however many try, and never a truncated object. fsspec's own
  `mode="create"` is `exists()` followed by a plain write on every filesystem but S3, so local disks and `memory://`
  get their own. A filesystem for which no such primitive is known is refused as an output by `check_output`.
- Everything that crosses a network goes through the one retry policy (`pipeline.retry`).
- Listings are never cached: another writer is always assumed.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import threading
import uuid
from collections.abc import Iterator
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.errors import UserError
from pipeline.retry import StorageError, causes, error_code, retrying

_memory_lock = threading.Lock()


class Entry(NamedTuple):
    """One listed object."""

    name: str
    """Path relative to the listed prefix, with `/` between the parts."""
    url: str
    size: int
    """Bytes."""
    version: str
    """What changes when the content does: an etag on an object store, size and mtime on a disk."""


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The filesystem of `url` and the path in it.

    Raises UserError for a scheme that fsspec does not know, and for a chain of URLs.
    """
    first, *others = url.split("::")
    if others and (first in fsspec.available_protocols() or any("://" in other for other in others)):
        raise UserError(f"{url}: a chain of filesystems; give the URL of one, such as s3://BUCKET/PREFIX")
    options = {"use_listings_cache": False} if urlsplit(url).scheme in ("s3", "s3a") else {}
    try:
        # What stands behind a :: would be a filesystem of its own to fsspec; here it is a part of a name.
        fs, path = fsspec.core.url_to_fs(first, **options)
    except (ValueError, ImportError) as error:
        raise UserError(
            f"{url}: no filesystem for this URL ({error}); use a local path or s3://BUCKET/PREFIX"
        ) from None
    return fs, fs._strip_protocol(url) if others else path


def is_memory(url: str) -> bool:
    """Whether `url` lives in this process alone."""
    return urlsplit(url).scheme == "memory"


def is_local(url: str) -> bool:
    """Whether `url` is on a disk of this machine."""
    return isinstance(filesystem(url)[0], LocalFileSystem)


def absolute(url: str) -> str:
    """`url` without a trailing slash; a relative local path is made absolute, since workers have other directories.

    Raises UserError for a relative one in a job that was submitted to a cluster.
    """
    if not is_local(url):
        return url.rstrip("/")
    if is_submitted() and "://" not in url and not os.path.isabs(os.path.expanduser(url)):
        raise UserError(
            f"{url}: a relative path, and a submitted job runs in a copy of its working directory that Ray removes; "
            "give a URL such as s3://BUCKET/PREFIX, or an absolute path"
        )
    return os.path.abspath(filesystem(url)[1])


def is_submitted() -> bool:
    """Whether this process is a job that was submitted to a Ray cluster, which leaves this mark in its environment."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def join(prefix: str, name: str) -> str:
    """The URL of `name` under `prefix`. Raises ValueError where `name` could leave the prefix."""
    parts = name.split("/")
    if not name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise ValueError(
            f"{name!r} is not a path below {prefix}: it must be relative, without empty parts, '.' or '..'"
        )
    return f"{prefix.rstrip('/')}/{name}"


# --- reading -----------------------------------------------------------------------------------------------------


def list_files(url: str, suffix: str = "") -> list[Entry]:
    """Every object below `url` whose name ends with `suffix`, sorted by name; empty where there is none."""
    fs, path = filesystem(url)
    path = path.rstrip("/")

    def find() -> dict[str, dict[str, Any]]:
        return fs.find(path, detail=True)

    entries = []
    for found, info in retrying(find, url).items():
        if info["type"] != "file" or not found.endswith(suffix):
            continue
        name = os.path.relpath(found, path) if isinstance(fs, LocalFileSystem) else found[len(path) + 1 :]
        if name and name != ".":
            entries.append(Entry(name, f"{url.rstrip('/')}/{name}", info["size"], _version(info)))
    return sorted(entries)


def stat_file(url: str) -> Entry | None:
    """The entry of the object at `url` (its name is its last part), or None where there is no object."""
    fs, path = filesystem(url)
    try:
        info = retrying(lambda: fs.info(path), url)
    except FileNotFoundError:
        return None
    if info["type"] != "file":
        return None
    return Entry(path.rsplit("/", 1)[-1], url, info["size"], _version(info))


def exists(url: str) -> bool:
    """Whether an object, or a prefix with at least one object below it, is at `url`."""
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        return os.path.exists(path)
    return stat_file(url) is not None or bool(list_files(url))


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
        return _create_local(path, data)
    if isinstance(fs, MemoryFileSystem):
        return _create_in_memory(fs, path, data)
    return retrying(lambda: _create_on_s3(fs, path, data), url)


def replace(url: str, data: bytes) -> None:
    """Write the object at `url` whole, over whatever is there."""
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = _temporary_name(path)
        try:
            _write_synced(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), data)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        _sync_directory(path)
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


def is_leftover(name: str) -> bool:
    """Whether an object of this name is a temporary file that a kill left behind."""
    base = name.rsplit("/", 1)[-1]
    return base.startswith(".") and base.endswith(".tmp")


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


# --- exclusive creation, filesystem by filesystem ----------------------------------------------------------------


def _create_on_s3(fs: fsspec.AbstractFileSystem, path: str, data: bytes) -> bool:
    try:
        fs.pipe_file(path, data, mode="create")
    except FileExistsError:
        return False
    except OSError as error:
        if any(error_code(cause) == "PreconditionFailed" for cause in causes(error)):
            return False
        raise
    return True


def _create_in_memory(fs: MemoryFileSystem, path: str, data: bytes) -> bool:
    with _memory_lock:
        if fs.exists(path):
            return False
        fs.pipe_file(path, data)
        return True


def _create_local(path: str, data: bytes) -> bool:
    """An unnamed temporary file, linked once it is on the disk; a named one where the disk has no unnamed ones."""
    directory = os.path.dirname(path)
    os.makedirs(directory, exist_ok=True)
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_WRONLY, 0o644)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        return _create_local_named(path, data)
    # The unnamed file lives as long as a descriptor of it is open; `dst_dir_fd` makes CPython follow the /proc link.
    duplicate, parent = os.dup(descriptor), os.open(directory, os.O_RDONLY)
    try:
        _write_synced(descriptor, data)
        os.link(f"/proc/self/fd/{duplicate}", os.path.basename(path), dst_dir_fd=parent, follow_symlinks=True)
        os.fsync(parent)
    except FileExistsError:
        return False
    finally:
        os.close(duplicate)
        os.close(parent)
    return True


def _create_local_named(path: str, data: bytes) -> bool:
    temporary = _temporary_name(path)
    try:
        _write_synced(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), data)
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    _sync_directory(path)
    return True


def _temporary_name(path: str) -> str:
    directory, base = os.path.split(path)
    return os.path.join(directory, f".{base[:64]}.{uuid.uuid4().hex}.tmp")


def _write_synced(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())


def _sync_directory(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _version(info: dict[str, Any]) -> str:
    etag = info.get("ETag") or info.get("etag")
    if etag:
        return str(etag).strip('"')
    changed = info.get("mtime") or info.get("created")
    if isinstance(changed, datetime.datetime):  # memory:// lists seconds and stats a datetime
        changed = changed.timestamp()
    return f"{info['size']}-{changed}"
