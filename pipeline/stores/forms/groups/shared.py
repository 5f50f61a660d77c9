"""Spooled rows that the processes of a machine share: one of them decodes a row group, and the others read its file.

The file has no name, so others open it through the process that has it (/proc on Linux). A note of a few bytes says
which one that is; it is locked while rows are spooled, so that the others wait for them.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import stat
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO

from pipeline.stores.forms.groups.spool import Spool


def shared(key: object, spool: Callable[[], Spool]) -> Spool:
    """Return the rows that a process of this user has spooled here under `key`; else those of `spool`.

    Raises what `spool` raises.
    """
    folder = _folder()
    if folder is None:
        return spool()
    path = folder / hashlib.sha256(repr(key).encode()).hexdigest()
    with path.open("a+b") as note:
        fcntl.flock(note, fcntl.LOCK_EX)
        found = _of_another(note)
        if found is None:
            found = spool()
            note.truncate(0)
            note.write(b"%d %d %d" % (os.getpid(), found.descriptor, os.fstat(found.descriptor).st_ino))
            weakref.finalize(found, path.unlink, missing_ok=True)
        return found


def _of_another(note: IO[bytes]) -> Spool | None:
    """Return the spooled rows that a note tells of; None where their process no longer has them."""
    note.seek(0)
    words = note.read().split()
    with contextlib.suppress(OSError, ValueError):
        pid, descriptor, inode = map(int, words)
        file = open(f"/proc/{pid}/fd/{descriptor}", "rb")  # noqa: SIM115
        if os.fstat(file.fileno()).st_ino == inode:
            return Spool(file)
        file.close()
    return None


@functools.cache
def _folder() -> Path | None:
    """Return the folder for notes; None where it is not this user's alone. Removes notes of processes that are gone."""
    if not os.path.exists("/proc/self/fd"):
        return None
    folder = Path(tempfile.gettempdir(), f"transdomain-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        return None
    for note in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # others remove them, too
            pid = note.read_bytes().split(b" ")[0]
            if pid and not os.path.exists(f"/proc/{pid.decode(errors='replace')}"):
                note.unlink()
    return folder
