"""Walk of a folder on a disk: every file below it, with links followed, and counts of everything else."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple

_OF_THE_DISK = ("lost+found", "System Volume Information")
"""Folders at the root of a disk that a filesystem reserves for itself and lets nobody read."""


class Found(NamedTuple):
    """File that a walk came to."""

    name: str
    """Path relative to the start of the walk."""
    size: int
    """Number of bytes; for a link, those of its target."""
    version: str
    """Value that changes with the content, as far as a disk knows."""


class Tally:
    """Counts of entries passed over: for each reason, how many and the alphabetically first name."""

    HIDDEN: ClassVar = "names that begin with a dot"
    NOWHERE: ClassVar = "links that lead nowhere"
    LOOP: ClassVar = "links to a folder that they are in"
    NO_FILE: ClassVar = "sockets, pipes and devices"
    OF_THE_DISK: ClassVar = "folders that a disk keeps for itself"

    def __init__(self, wants: Callable[[str], bool] = bool) -> None:
        """Count only the names that `wants` accepts."""
        self.counts: dict[str, tuple[int, str]] = {}
        self.followed: dict[str, str] = {}
        """Real path of each folder that a link led to, by the link's name."""
        self._wants = wants

    def add(self, reason: str, name: str) -> None:
        """Count `name`."""
        if self._wants(name):
            before, first = self.counts.get(reason, (0, name))
            self.counts[reason] = before + 1, min(first, name)


class _Folder(NamedTuple):
    path: str
    name: str
    """Path relative to the start of the walk, with a slash at its end; empty for the start itself."""
    real: str
    """Path with links resolved."""
    behind: tuple[str, ...]
    """Real paths of the folders that hold the links that led here."""


def version_of(found: os.stat_result) -> str:
    """Return a value that changes with the content of a file."""
    return f"{found.st_size}-{found.st_mtime}"


def walk(root: str, tally: Tally, *, dots: bool, enters: Callable[[str], bool] = bool) -> Iterator[Found]:
    """Yield every file below `root`, including those that links lead to.

    Names that begin with a dot are passed over unless `dots` is set, and so are folders whose name `enters` refuses.
    Entries that vanish during the walk are ignored. Raises OSError where a folder cannot be listed or an entry cannot
    be examined.
    """
    folders = [_Folder(root, "", os.path.realpath(root), ())]
    while folders:
        folder = folders.pop()
        try:
            entries = os.scandir(folder.path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            if folder.name[:-1].rpartition("/")[2] not in _OF_THE_DISK:
                raise
            tally.add(Tally.OF_THE_DISK, folder.name)
            continue
        with entries:
            for entry in entries:
                name = folder.name + entry.name
                if entry.name[0] == "." and not dots:
                    tally.add(Tally.HIDDEN, name)
                elif entry.is_symlink():
                    found = _target(entry.path)
                    if found is None:
                        tally.add(Tally.NOWHERE, name)
                    elif stat.S_ISDIR(found.st_mode):
                        behind, real = (*folder.behind, folder.real), os.path.realpath(entry.path)
                        if any(_is_within(each, real) for each in behind):
                            tally.add(Tally.LOOP, name)
                        elif enters(name):
                            tally.followed[name] = real
                            folders.append(_Folder(entry.path, f"{name}/", real, behind))
                    elif stat.S_ISREG(found.st_mode):
                        yield Found(name, found.st_size, version_of(found))
                    else:
                        tally.add(Tally.NO_FILE, name)
                elif entry.is_dir(follow_symlinks=False):
                    if enters(name):
                        real = f"{folder.real.rstrip('/')}/{entry.name}"
                        folders.append(_Folder(entry.path, f"{name}/", real, folder.behind))
                elif not entry.is_file(follow_symlinks=False):
                    tally.add(Tally.NO_FILE, name)
                elif (found := _target(entry.path)) is not None:
                    yield Found(name, found.st_size, version_of(found))


def _target(path: str) -> os.stat_result | None:
    """Return the stat of what `path` leads to, or None where it leads nowhere."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")
