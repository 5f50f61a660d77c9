"""A URL becomes a filesystem and a path in it; names below a prefix cannot leave it."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import UserError
from pipeline.storage import client


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The filesystem of `url` and the path in it.

    Raises UserError for a scheme that fsspec does not know, and for a chain of URLs.
    """
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
