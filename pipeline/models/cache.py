"""Cache of this user on a machine: compiled code, and weights that were fetched from elsewhere.

Both decide what a process does, so they are read from this user's own folder only, and never from one in which others
can write.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import logging
import os
import shutil
import tempfile
import time
from typing import Literal

from pipeline import storage
from pipeline.errors import StorageError, one_line

log = logging.getLogger("transdomain")


def cache_folder(kind: Literal["compiled", "weights"]) -> str:
    """Return this user's folder for such files: below $XDG_CACHE_HOME, or ~/.cache.

    It is one of this process alone where that cannot be written, or where others could put files there.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return _private(os.path.join(base, "transdomain", kind))


def read_weights(url: str) -> bytes:
    """Return a file of a model. One from another machine is fetched once, and kept until it changes there.

    Raises FileNotFoundError and StorageError like `storage.read`.
    """
    if storage.is_local(url) or storage.is_memory(url) or (entry := storage.stat_file(url)) is None:
        return storage.read(url)
    if entry.version.endswith("-None"):  # the server does not say when it changes
        return storage.read(url)
    name = hashlib.sha256(f"{url}\n{entry.version}".encode()).hexdigest()
    with storage.locked(
        storage.join(cache_folder("weights"), f"{name}.lock")
    ):  # the others of this machine wait for it
        kept = storage.join(cache_folder("weights"), name)
        found = storage.read_if_there(kept)
        if found is not None and hashlib.sha256(found[_DIGEST:]).digest() == found[:_DIGEST]:
            return found[_DIGEST:]
        _remove_old(cache_folder("weights"))
        data = storage.read(url, size=entry.size, version=entry.version)
        try:
            storage.replace(kept, hashlib.sha256(data).digest() + data)
        except StorageError as error:  # the disk is full
            log.info("%s is not kept on this machine: %s", storage.escaped(url), one_line(error))
        return data


def _remove_old(folder: str) -> None:
    for entry in storage.list_files(folder):
        if (storage.age_s(entry.url, time.time()) or 0) > _KEEP_S:
            storage.delete(entry.url)


_KEEP_S = 30 * 24 * 3600.0
"""Seconds for which fetched weights are kept."""
_DIGEST = 32
"""Bytes of a sha256 before the data."""


@functools.cache
def _private(folder: str) -> str:
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        found = os.stat(folder)
        if found.st_uid == os.getuid() and not found.st_mode & 0o022 and os.access(folder, os.W_OK):
            return folder
        why = "others can write there, or this user cannot"
    except OSError as error:
        why = one_line(error)
    log.info("nothing is kept in %s (%s); what is made serves this process alone", storage.escaped(folder), why)
    made = tempfile.mkdtemp(prefix="transdomain-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made
