"""Listed objects in columns: tens of bytes for each of millions of them, and one Python object for whoever looks."""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.storage.in_flight import Progress

BATCH = 65_536
"""Names that are Python objects at a time."""


class Entry(NamedTuple):
    """Listed object."""

    name: str
    """Path relative to the listed prefix, with `/` between its parts; bytes that are not UTF-8 appear as \\xNN."""
    url: str
    size: int
    """Number of bytes."""
    version: str
    """Value that changes with the content: an etag on an object store, size and mtime on a disk."""


@dataclass(frozen=True, eq=False)
class Entries(Sequence[Entry]):
    """Objects below one prefix, sorted by name; an `Entry` is made when it is looked at."""

    base: str
    """URL that all names are relative to; an object's URL is base, a slash, and its name."""
    names: pa.LargeStringArray
    sizes: np.ndarray
    """Numbers of bytes, int64."""
    versions: pa.LargeStringArray
    elsewhere: pa.LargeStringArray | None = None
    """URL of each entry, where some are below another prefix."""

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> Entries:
        """Return these entries, which are below one prefix, as columns."""
        base = entries[0].url.removesuffix(f"/{entries[0].name}") if entries else ""
        assert all(entry.url == f"{base}/{entry.name}" for entry in entries)
        columns = Columns(base)
        for entry in entries:
            columns.add(entry.name, entry.size, entry.version)
        return columns.entries()

    @classmethod
    def joined(cls, parts: Sequence[Entries]) -> Entries:
        """Return the entries of several prefixes (one at least), of which no two share a name, as below the first."""
        names = pa.concat_arrays([part.names for part in parts])
        order = pc.sort_indices(names)
        return cls(
            parts[0].base,
            names.take(order),
            np.concatenate([part.sizes for part in parts])[order.to_numpy()],
            pa.concat_arrays([part.versions for part in parts]).take(order),
            pa.concat_arrays([part.urls for part in parts]).take(order),
        )

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Entries: ...
    def __getitem__(self, index: int | slice) -> Entry | Entries:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        name = self.names[index].as_py()
        url = f"{self.base}/{name}" if self.elsewhere is None else self.elsewhere[index].as_py()
        return Entry(name, url, int(self.sizes[index]), self.versions[index].as_py())

    def __iter__(self) -> Iterator[Entry]:
        for start in range(0, len(self), BATCH):
            part = slice(start, start + BATCH)
            columns = (self.names, self.sizes, self.versions)
            urls = iter(self.elsewhere[part].to_pylist() if self.elsewhere is not None else ())
            for name, size, version in zip(*(column[part].tolist() for column in columns), strict=True):
                yield Entry(name, next(urls, "") or f"{self.base}/{name}", size, version)

    def take(self, which: np.ndarray) -> Entries:
        """Return the entries at these positions, or where a mask is True."""
        if which.dtype == bool:
            which = np.flatnonzero(which)
        at = pa.array(which)
        return replace(
            self,
            names=self.names.take(at),
            sizes=self.sizes[which],
            versions=self.versions.take(at),
            elsewhere=None if self.elsewhere is None else self.elsewhere.take(at),
        )

    @property
    def urls(self) -> pa.LargeStringArray:
        """Return the URLs of all entries."""
        if self.elsewhere is not None:
            return self.elsewhere
        text = pa.large_string()
        return pc.binary_join_element_wise(pa.scalar(self.base, text), self.names, pa.scalar("/", text))

    def name_batches(self) -> Iterator[list[str]]:
        """Yield all names, in order, some ten thousand at a time."""
        for start in range(0, len(self), BATCH):
            yield self.names[start : start + BATCH].to_pylist()

    def below(self, prefix: str) -> slice:
        """Return the positions of the names that begin with `prefix`."""
        start = bisect.bisect_left(range(len(self)), prefix, key=self._name)
        within = range(start, len(self))
        return slice(
            start, start + bisect.bisect_left(within, True, key=lambda i: not self._name(i).startswith(prefix))
        )

    def has(self, name: str) -> bool:
        """Return True where an object of this name is listed."""
        at = bisect.bisect_left(range(len(self)), name, key=self._name)
        return at < len(self) and self._name(at) == name

    def inside(self, folder: str) -> Entries:
        """Return the entries below a folder (named with a slash at its end), named relative to it."""
        part = self[self.below(folder)]
        names = pc.utf8_slice_codeunits(part.names, len(folder))
        return replace(part, base=f"{self.base}/{folder[:-1]}", names=names)

    def _name(self, index: int) -> str:
        name: str = self.names[index].as_py()
        return name


class Columns:
    """Entries below one prefix while they are listed, in any order."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._names, self._sizes, self._versions = list[str](), array("q"), list[str]()
        self._chunks: tuple[list[pa.Array], list[pa.Array]] = ([], [])
        self._progress = Progress(lambda count: f"{base}: listed {count:,} objects so far")

    def add(self, name: str, size: int, version: str) -> None:
        """Add an object; its name must be valid UTF-8."""
        self._names.append(name)
        self._sizes.append(size)
        self._versions.append(version)
        if len(self._names) == BATCH:
            self._pack()

    def _pack(self) -> None:
        for chunks, held in zip(self._chunks, (self._names, self._versions), strict=True):
            chunks.append(pa.array(held, pa.large_string()))
            held.clear()
        self._progress.at(len(self._sizes))

    def entries(self) -> Entries:
        """Return what was added, sorted by name, as Python sorts: the order of code points is that of UTF-8 bytes."""
        self._pack()
        # Each column is let go before the next is joined: there may be gigabytes.
        names, sizes, versions = _joined(self._chunks[0]), np.array(self._sizes, np.int64), _joined(self._chunks[1])
        if not pc.all(pc.less_equal(names[:-1], names[1:])).as_py():
            order = pc.sort_indices(names)
            names = names.take(order)
            versions, sizes = versions.take(order), sizes[order.to_numpy()]
        return Entries(self._base, names, sizes, versions)


def _joined(chunks: list[pa.Array]) -> pa.LargeStringArray:
    whole = pa.concat_arrays(chunks)
    chunks.clear()
    return whole
