"""Listings of a prefix, and lookups of a single URL. They are never cached: another writer may always be active.

A folder that cannot be listed is an error, never an empty folder. Links are followed; size and version are those of
their targets, as in `stat_file`.
"""

from __future__ import annotations

import datetime
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.errors import StorageError, UserError
from pipeline.storage import client, cloud, clouds, s3
from pipeline.storage.entries import Columns, Entries, Entry
from pipeline.storage.retry import retrying
from pipeline.storage.urls import escaped, filesystem, is_text, unescaped
from pipeline.storage.walk import Tally, version_of, walk

UNHOLDABLE = "names that a plan cannot hold"
FOLDER_MARKERS = "objects with content whose name ends with a slash"


@dataclass(frozen=True)
class PassedOver:
    """Entries below a prefix that are not inputs, for one reason."""

    reason: str
    """Reason in a few words."""
    count: int
    example: str
    """Name of the first entry, relative to the prefix."""

    def below(self, url: str) -> str:
        """Return one line about these entries; `url` is the listed prefix."""
        return f"{url}: {self.count:,} {self.reason}, such as {self.example}: no input"


@dataclass(frozen=True)
class Listing:
    """Content of a prefix of inputs."""

    entries: Entries
    """Objects, sorted by name."""
    tally: Tally
    """Counts of everything below the prefix that is not among the entries, by reason."""


def list_files(url: str, suffix: str = "") -> Entries:
    """Return every object below `url` whose name ends with `suffix`, sorted by name; nothing where there is none.

    Raises StorageError where a folder below `url` cannot be listed.
    """
    return _listed(url, Tally(), dots=True, wants=lambda name: name.endswith(suffix))


def list_inputs(url: str, *, wants: Callable[[str], bool] = bool, enters: Callable[[str], bool] = bool) -> Listing:
    """Return the objects below `url` whose name is wanted and has no part that begins with a dot.

    Folders on a disk are entered where `enters` accepts their name. Entries that are passed over are counted: names
    with a dot, links that lead nowhere or in a circle, entries that are not files, and names that a plan cannot hold.
    Raises StorageError where a folder below `url` cannot be listed.
    """
    tally = Tally(wants)
    return Listing(_listed(url, tally, dots=False, wants=wants, enters=enters), tally)


def passed_over(tally: Tally) -> tuple[PassedOver, ...]:
    """Return the counted entries, the most frequent reason first."""
    found = [PassedOver(reason, *counted) for reason, counted in tally.counts.items()]
    return tuple(sorted(found, key=lambda each: (-each.count, each.reason)))


def stat_file(url: str) -> Entry | None:
    """Return the entry of the object at `url`, named by the last part of its path, or None where there is none."""
    fs, path = filesystem(url)
    name = path.rsplit("/", 1)[-1]
    if isinstance(fs, LocalFileSystem):
        try:
            found = retrying(lambda: os.stat(path), url)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Entry(name, url, found.st_size, version_of(found)) if stat.S_ISREG(found.st_mode) else None
    if (store := clouds.of(fs)) is not None:
        try:
            there = cloud.look_up(store, fs, path, url)
        except FileNotFoundError:
            return None
        return Entry(name, url, there.size, there.version)
    try:
        info = client.retrying_on(fs, lambda: fs.info(path, **client.in_time(fs, url)), url)
    except FileNotFoundError:
        return None
    if info["type"] != "file":
        return None
    return Entry(name, url, info["size"], _version(info))


def exists(url: str) -> bool:
    """Return True where there is an object at `url`, or a prefix with at least one object below it."""
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        return os.path.exists(path)
    return stat_file(url) is not None or bool(list_files(url))


def require_empty(url: str, *, unless: tuple[str, ...]) -> None:
    """Raise UserError where files exist below a prefix: an output would mix with them, or replace them.

    Names that begin with one of `unless` show that an output was begun there. Hidden files do not count.
    """
    names = [entry.name for entry in list_files(url) if not is_hidden(entry.name)]
    if names and not any(name.startswith(unless) for name in names):
        raise UserError(
            f"{url} is no output of a job and holds {len(names)} other files, such as {names[0]}; give an empty "
            "prefix, or a new one"
        )


def is_hidden(name: str) -> bool:
    """Return True where readers ignore an object of this name: some part of it begins with a dot."""
    return any(part.startswith(".") for part in name.split("/"))


def is_leftover(name: str) -> bool:
    """Return True where the name is that of a temporary file that a killed process left behind."""
    base = name.rsplit("/", 1)[-1]
    return base.startswith(".") and base.endswith(".tmp")


def _listed(
    url: str,
    tally: Tally,
    *,
    dots: bool,
    wants: Callable[[str], bool],
    enters: Callable[[str], bool] = bool,
) -> Entries:
    fs, path = filesystem(url)
    path, base = path.rstrip("/"), url.rstrip("/")
    if isinstance(fs, LocalFileSystem):
        return _walked(path, base, tally, dots=dots, wants=wants, enters=enters)
    columns = Columns(base)
    found_there: Iterable[tuple[str, dict[str, Any]]]
    if client.is_s3(fs):
        found_there = s3.find(fs, path, url)
    elif (store := clouds.of(fs)) is not None:
        found_there = (
            (each.path, {"type": "file", "size": each.size, "version": each.version})
            for each in cloud.find(store, fs, path, url)
        )
    else:
        found_there = retrying(lambda: _found(fs, path), url).items()
    for found, info in found_there:
        name = found[len(path) + 1 :]
        if not name or info["type"] != "file":
            continue
        if not dots and any(part.startswith(".") for part in name.split("/")):
            tally.add(Tally.HIDDEN, name)
        elif name.endswith("/"):
            if info["size"]:
                tally.add(FOLDER_MARKERS, name)
        elif not is_text(name) or "?versionId=" in name:  # the S3 client reads this as an object's version
            tally.add(UNHOLDABLE, escaped(name))
        elif wants(name):
            columns.add(name, info["size"], _version(info))
    return columns.entries()


def _walked(
    path: str, base: str, tally: Tally, *, dots: bool, wants: Callable[[str], bool], enters: Callable[[str], bool]
) -> Entries:
    """List a folder on a disk; `base` is its URL."""

    def attempt() -> Columns:
        tally.counts.clear()
        columns = Columns(base)
        for name, size, version in walk(path or "/", tally, dots=dots, enters=enters):
            if (held := _held_name(path, name)) is None:
                tally.add(UNHOLDABLE, escaped(name))
            elif wants(held):
                columns.add(held, size, version)
        return columns

    try:
        return retrying(attempt, base).entries()
    except OSError as error:
        raise StorageError(
            f"{escaped(str(error.filename or path))}: cannot be listed ({error.strerror or error}), and what is in it "
            "would be left out; make it readable, or move it out of the input"
        ) from error


def _held_name(path: str, name: str) -> str | None:
    """Return `name` as a plan holds it, or None where that would be the name of another file."""
    if name.isascii() or is_text(name):
        return name
    held = escaped(name)
    whole = f"{path}/{name}"
    return held if unescaped(escaped(whole)) == whole and not os.path.lexists(f"{path}/{held}") else None


def _found(fs: fsspec.AbstractFileSystem, path: str) -> dict[str, dict[str, Any]]:
    """Return every object below `path`, with its details."""
    lists_keys = getattr(type(fs), "_find", AsyncFileSystem._find) is not AsyncFileSystem._find
    if lists_keys or isinstance(fs, MemoryFileSystem):
        return fs.find(path, detail=True)
    # fsspec's own find is a walk, which takes a folder that cannot be listed for an empty one.
    found, folders = dict[str, dict[str, Any]](), [path]
    while folders:
        folder = folders.pop()
        try:
            infos = fs.ls(folder, detail=True)
        except FileNotFoundError:
            continue
        for info in infos:
            if info["type"] == "directory":
                folders.append(info["name"])
            elif info["name"] != folder:
                found[info["name"]] = info
    return found


def _version(info: dict[str, Any]) -> str:
    etag = info.get("version") or info.get("ETag") or info.get("etag") or info.get("blob_id")
    if etag:
        return str(etag).strip('"')
    changed = info.get("mtime") or info.get("created")
    if isinstance(changed, datetime.datetime):  # memory:// lists seconds but stats a datetime
        changed = changed.timestamp()
    return f"{info['size']}-{changed}"
