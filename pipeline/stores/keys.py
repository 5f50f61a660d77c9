"""Search for clashing keys, with bounded memory however many keys there are."""

from __future__ import annotations

import contextlib
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from pipeline import storage
from pipeline.stores.forms import naming
from pipeline.stores.forms.registry import form_named
from pipeline.stores.tables.schema import Store

_PARTITIONS = 64
_NAMES = 65_536
"""Hashes to hold in memory before they are written."""
_MOST_SUSPECTS = 1000
"""Limit of suspects in one partition; more would be of the same kind, and some of them are enough."""
Batches = Callable[[], Iterable[tuple[str, Sequence[str]]]]
"""Function that yields all keys anew, batch by batch, each with the name of its shard."""


def key_prefix(translator: str, source: str) -> str:
    """Return what keys begin with where several translators, or several sources, share an output."""
    return "".join(f"{name}/" for name in (translator, source) if name)


def duplicate_source_keys(stores: Sequence[Store], most: int = 10) -> list[tuple[str, str, str]]:
    """Return some keys that occur more than once in all these stores together, each with the URLs of two of its shards.

    Reads only the column of keys, and nothing of a single store whose keys are unique by construction: a folder, or
    shards that name their rows by number.
    """
    if len(stores) == 1 and form_named(stores[0].form).has_unique_keys(stores[0]):
        return []
    return duplicates(lambda: (batch for store in stores for batch in store_keys(store)), most)


def store_keys(store: Store) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the keys of a store, some ten thousand at a time, each batch with its shard's URL."""
    return form_named(store.form).keys(store)


def duplicates(batches: Batches, most: int = 10) -> list[tuple[str, str, str]]:
    """Return some keys that occur more than once, at most `most`, sorted, each with two shards that have it.

    64-bit hashes are spread over files and compared file by file. Only keys with colliding hashes are examined again,
    in a second pass.
    """
    with contextlib.ExitStack() as stack:
        seen = _Spread(stack)
        for _, keys in batches():
            seen.add(keys)
        suspects = {value for values in seen.partitions() for value in _repeated(values)}
    if not suspects:
        return []
    first, found = dict[str, str](), dict[str, tuple[str, str, str]]()
    for shard, keys in batches():
        for key in keys:
            if hash(key) in suspects:
                if key in first:
                    found.setdefault(key, (key, first[key], shard))
                else:
                    first[key] = shard
    return sorted(found.values())[:most]


def duplicate_keys(batches: Callable[[], Iterable[Sequence[str]]], most: int = 10) -> list[str]:
    """Return some keys that occur more than once in all batches together; at most `most`, sorted."""
    return [key for key, _, _ in duplicates(lambda: (("", keys) for keys in batches()), most)]


def file_and_folder_keys(
    batches: Callable[[], Iterable[Sequence[str]]], extension: str, most: int = 10
) -> list[tuple[str, str]]:
    """Return some pairs of keys that cannot both be files below one folder: one's file is where the other's folder is.

    Key `a` becomes the file a.png, and key `a.png/b` needs a folder of that name. At most `most` pairs, sorted; memory
    is bounded as in `duplicates`.
    """
    with contextlib.ExitStack() as stack:
        files, folders = _Spread(stack), _Spread(stack)
        for keys in batches():
            names = [naming.file_name(key, extension) for key in keys]
            files.add(names)
            folders.add([folder for name in names for folder in _folders(name, extension)])
        meeting = zip(files.partitions(), folders.partitions(), strict=True)
        suspects = {value for one, other in meeting for value in np.intersect1d(one, other)[:_MOST_SUSPECTS].tolist()}
    if not suspects:
        return []
    as_file, as_folder = dict[str, str](), dict[str, str]()
    for keys in batches():
        for key in keys:
            name = naming.file_name(key, extension)
            if hash(name) in suspects:
                as_file[name] = key
            for folder in _folders(name, extension):
                if hash(folder) in suspects:
                    as_folder.setdefault(folder, key)
    return sorted((as_file[name], as_folder[name]) for name in as_file.keys() & as_folder.keys())[:most]


def _folders(name: str, extension: str) -> Iterator[str]:
    """Yield the folders of a file whose name could also be that of a file."""
    end = name.find(f".{extension}/")
    while end >= 0:
        yield name[: end + len(extension) + 1]
        end = name.find(f".{extension}/", end + 1)


def _repeated(values: np.ndarray) -> list[int]:
    ordered = np.sort(values)
    return ordered[1:][ordered[1:] == ordered[:-1]][:_MOST_SUSPECTS].tolist()


class _Spread:
    """Hashes of names, kept on the disk in files; equal hashes share a file."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        """Open the files, which are gone when `stack` is closed."""
        self._files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(_PARTITIONS)]  # noqa: SIM115
        self._waiting = array("q")

    def add(self, names: Iterable[str]) -> None:
        self._waiting.extend(map(hash, names))
        if len(self._waiting) >= _NAMES:  # names may come one by one
            self._write()

    def _write(self) -> None:
        hashes = np.array(self._waiting, np.int64)
        partitions = (hashes % _PARTITIONS).astype(np.uint8)  # which is sorted by counting
        hashes = hashes[np.argsort(partitions, kind="stable")]
        ends = np.cumsum(np.bincount(partitions, minlength=_PARTITIONS))
        with storage.on_disk(tempfile.gettempdir(), "free some space, or set TMPDIR to another disk"):
            for file, part in zip(self._files, np.split(hashes, ends[:-1]), strict=True):
                file.write(part.tobytes())
        self._waiting = array("q")

    def partitions(self) -> Iterator[np.ndarray]:
        """Yield the hashes of each file, int64."""
        self._write()
        for file in self._files:
            file.seek(0)
            yield np.frombuffer(file.read(), np.int64)
