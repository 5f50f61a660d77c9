"""A URL becomes a filesystem and a path in it; names below a prefix cannot leave it."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import UserError, check_secret_free
from pipeline.storage import client


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The filesystem of `url` and the path in it.

    Raises UserError for a scheme that fsspec does not know, for a chain of URLs, and for credentials in a URL.
    """
    check_secret_free(url)
    first, *others = url.split("::")
    if others and (first in fsspec.available_protocols() or any("://" in other for other in others)):
        raise UserError(f"{url}: a chain of filesystems; give the URL of one, such as s3://BUCKET/PREFIX")
    try:
        # What stands behind a :: would be a filesystem of its own to fsspec; here it is a part of a name.
        if urlsplit(url).scheme in ("s3", "s3a"):
            fs = client.filesystem()
            return fs, fs._strip_protocol(url)
        fs, path = fsspec.core.url_to_fs(first)
    except (ValueError, ImportError) as error:
        raise UserError(
            f"{url}: no filesystem for this URL ({error}); use a local path or s3://BUCKET/PREFIX"
        ) from None
    path = fs._strip_protocol(url) if others else path
    if "\\x" in path and isinstance(fs, LocalFileSystem) and not os.path.lexists(path):
        raw = unescaped(path)
        path = raw if os.path.lexists(raw) else path
    return fs, path


_ESCAPED_BYTE = re.compile(r"\\x([89a-f][0-9a-f])")


def is_text(name: str) -> bool:
    """Whether a name is UTF-8; a disk may have others, of which Python makes surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def escaped(name: str) -> str:
    """`name` with \\xNN for each byte that is no UTF-8; the name of a file that is there, `filesystem` finds by it."""
    try:
        return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    except UnicodeEncodeError:  # no name of a disk
        return name.encode(errors="backslashreplace").decode()


def unescaped(name: str) -> str:
    """The inverse of `escaped` for names that had no such text in them."""
    return _ESCAPED_BYTE.sub(lambda byte: chr(0xDC00 + int(byte[1], 16)), name)


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


def real(url: str) -> str:
    """`url` without links on its way, where it is on a disk; what is not there may be named, too."""
    return os.path.realpath(filesystem(url)[1]) if is_local(url) else url


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


def room_for_names(prefix: str) -> int:
    """Bytes that the name of an object below `prefix` may have: of a path on a disk, or of a key on an object store."""
    fs, path = filesystem(prefix)
    if isinstance(fs, LocalFileSystem):
        most = 4095 - 48  # PATH_MAX without the byte at its end, and what a temporary name may have more
    else:
        path, most = path.lstrip("/").partition("/")[2], 1024  # the bucket is no part of a key
    return most - len(os.fsencode(path.rstrip("/"))) - 1
