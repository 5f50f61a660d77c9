"""What is below a prefix, and what stands at a URL. Listings are never cached: another writer is always assumed."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from typing import Any, NamedTuple

from fsspec.implementations.local import LocalFileSystem

from pipeline.retry import retrying
from pipeline.storage import client, s3
from pipeline.storage.urls import filesystem


class Entry(NamedTuple):
    """One listed object."""

    name: str
    """Path relative to the listed prefix, with `/` between the parts."""
    url: str
    size: int
    """Bytes."""
    version: str
    """What changes when the content does: an etag on an object store, size and mtime on a disk."""


@dataclass(frozen=True)
class PassedOver:
    """Entries below a prefix that are not taken for inputs, for one reason."""

    reason: str
    """A few words."""
    count: int
    example: str
    """The name of the first of them, relative to the prefix."""


def list_files(url: str, suffix: str = "") -> list[Entry]:
    """Every object below `url` whose name ends with `suffix`, sorted by name; empty where there is none."""
    fs, path = filesystem(url)
    path = path.rstrip("/")

    def find() -> dict[str, dict[str, Any]]:
        return fs.find(path, detail=True)

    entries = []
    for found, info in (s3.find(fs, path, url) if client.is_s3(fs) else retrying(find, url)).items():
        if info["type"] != "file" or not found.endswith(suffix) or found.endswith("/"):
            continue
        name = os.path.relpath(found, path) if isinstance(fs, LocalFileSystem) else found[len(path) + 1 :]
        if name and name != ".":
            entries.append(Entry(name, f"{url.rstrip('/')}/{name}", info["size"], _version(info)))
    return sorted(entries)


def stat_file(url: str) -> Entry | None:
    """The entry of the object at `url` (its name is its last part), or None where there is no object."""
    fs, path = filesystem(url)
    try:
        info = client.retrying_on(fs, lambda: fs.info(path, **client.in_time(fs, url)), url)
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


def is_leftover(name: str) -> bool:
    """Whether an object of this name is a temporary file that a kill left behind."""
    base = name.rsplit("/", 1)[-1]
    return base.startswith(".") and base.endswith(".tmp")


def _version(info: dict[str, Any]) -> str:
    etag = info.get("ETag") or info.get("etag")
    if etag:
        return str(etag).strip('"')
    changed = info.get("mtime") or info.get("created")
    if isinstance(changed, datetime.datetime):  # memory:// lists seconds and stats a datetime
        changed = changed.timestamp()
    return f"{info['size']}-{changed}"
