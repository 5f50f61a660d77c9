"""Resolution of a URL to a filesystem and a path in it; names below a prefix cannot leave it."""

from __future__ import annotations

import functools
import os
import re
from urllib.parse import urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import UserError, check_secret_free
from pipeline.storage import client, clouds


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the filesystem of `url` and the path in it.

    Raises UserError for a scheme unknown to fsspec, a chain of URLs, and credentials in a URL.
    """
    if url.startswith("/") and ":" not in url and "\\x" not in url:
        return _local(), url.rstrip("/") or "/"  # as fsspec would say, which takes ten times as long as opening a file
    check_secret_free(url)
    first, *others = url.split("::")
    if others and (first in fsspec.available_protocols() or any("://" in other for other in others)):
        raise UserError(f"{url}: a chain of filesystems; give the URL of one, such as s3://BUCKET/PREFIX")
    try:
        # To fsspec, what follows a :: would be a filesystem of its own; here it is part of a name.
        if urlsplit(url).scheme in ("s3", "s3a"):
            fs = client.filesystem()
            return fs, fs._strip_protocol(url)
        if (found := clouds.filesystem(url)) is not None:
            return found
        fs, path = fsspec.core.url_to_fs(first)
    except (ValueError, ImportError) as error:
        if clouds.knows(url):
            raise UserError(f"{url}: {error}") from None
        raise UserError(
            f"{url}: no filesystem for this URL ({error}); use a local path or s3://BUCKET/PREFIX"
        ) from None
    path = fs._strip_protocol(url) if others else path
    if "\\x" in path and isinstance(fs, LocalFileSystem) and not os.path.lexists(path):
        raw = unescaped(path)
        path = raw if os.path.lexists(raw) else path
    return fs, path


@functools.cache
def _local() -> LocalFileSystem:
    return LocalFileSystem()


_ESCAPED_BYTE = re.compile(r"\\x([89a-f][0-9a-f])")


def is_text(name: str) -> bool:
    """Return True where a name is UTF-8; disks may have other names, in which Python puts surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def escaped(name: str) -> str:
    """Return `name` with \\xNN for each byte that is not UTF-8; `filesystem` finds an existing file by this name."""
    try:
        return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    except UnicodeEncodeError:  # not a disk's name
        return name.encode(errors="backslashreplace").decode()


def unescaped(name: str) -> str:
    """Undo `escaped`, for names that did not contain such text before."""
    return _ESCAPED_BYTE.sub(lambda byte: chr(0xDC00 + int(byte[1], 16)), name)


def is_memory(url: str) -> bool:
    """Return True where `url` exists in this process only."""
    return urlsplit(url).scheme == "memory"


def is_local(url: str) -> bool:
    """Return True where `url` is on a disk of this machine."""
    return isinstance(filesystem(url)[0], LocalFileSystem)


def absolute(url: str) -> str:
    """Return `url` without a trailing slash; make a local path absolute, since workers have other working directories.

    Raises UserError for a relative path in a job that was submitted to a cluster.
    """
    if not is_local(url):
        return url.rstrip("/")
    if is_submitted() and "://" not in url and not os.path.isabs(os.path.expanduser(url)):
        raise UserError(
            f"{url}: a relative path, and a submitted job runs in a copy of its working directory that Ray removes; "
            "give a URL such as s3://BUCKET/PREFIX, or an absolute path"
        )
    return os.path.abspath(filesystem(url)[1])


def real(url: str) -> str:
    """Return `url` with links resolved where it is on a disk; it need not exist."""
    return os.path.realpath(filesystem(url)[1]) if is_local(url) else url


def is_submitted() -> bool:
    """Return True where this process is a job submitted to a Ray cluster, which leaves this mark in its environment."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def join(prefix: str, name: str) -> str:
    """Return the URL of `name` under `prefix`. Raises ValueError where `name` could leave the prefix."""
    parts = name.split("/")
    if not name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise ValueError(
            f"{name!r} is not a path below {prefix}: it must be relative, without empty parts, '.' or '..'"
        )
    return f"{prefix.rstrip('/')}/{name}"


def room_for_names(prefix: str) -> int:
    """Return the bytes that an object's name below `prefix` may take: in a disk's path, or in an object store's key."""
    fs, path = filesystem(prefix)
    if isinstance(fs, LocalFileSystem):
        most = 4095 - 48  # PATH_MAX without its final byte, less what a temporary name may add
    else:
        path, most = path.lstrip("/").partition("/")[2], 1024  # the bucket is not part of a key
    return most - len(os.fsencode(path.rstrip("/"))) - 1
