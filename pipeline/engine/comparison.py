"""Comparison of the shards that there are with those that were planned: which are new, changed or gone. Pure.

Shards are found by 64-bit hashes of their names, in columns, and then compared by name, so that equal hashes of two
names do no harm. For ten million shards that is a few hundred megabytes, and a tenth of what a dictionary would take.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.storage import Entries
from pipeline.storage.entries import BATCH

MOST_GONE = 1000


@dataclass(frozen=True)
class Found:
    """Shards of one source, by their numbers in its listing, which ascend."""

    fresh: np.ndarray
    """Shards that were never planned."""
    changed: np.ndarray
    """Shards at the place where they were planned that have another version now."""
    elsewhere: np.ndarray
    """Shards that were planned at another place, where their version says nothing."""
    planned_sizes: np.ndarray
    """Encoded bytes of all ranges that were planned of each shard in `elsewhere`, int64."""


def compare(
    sources: Mapping[str, Entries], planned: Iterable[pa.Table], again: Iterable[pa.Table] = ()
) -> tuple[dict[str, Found], list[str]]:
    """Return what became of the shards of each source, and the names of some that were planned and are gone.

    `planned` has the source, shard, url, version and size of every planned range, some at a time; `again` those of
    whole shards that were planned once more, which are compared as they were then.
    """
    lookups: dict[str, _Lookup] = {}
    gone: dict[str, None] = {}
    for table in planned:
        for source in pc.unique(table["source"]).to_pylist():
            of_source = table.filter(pc.equal(table["source"], source))
            if source in sources and source not in lookups:
                lookups[source] = _Lookup(sources[source])
            missing = lookups[source].note(of_source) if source in lookups else of_source["shard"]
            if len(gone) < MOST_GONE:
                gone |= dict.fromkeys(missing[: MOST_GONE - len(gone)].to_pylist())
    for table in again:
        for source in pc.unique(table["source"]).to_pylist():
            if source in lookups:
                lookups[source].note_again(table.filter(pc.equal(table["source"], source)))
    return {
        name: lookups[name].found() if name in lookups else _all_fresh(shards) for name, shards in sources.items()
    }, list(gone)


def _all_fresh(shards: Entries) -> Found:
    none = np.zeros(0, np.int64)
    return Found(np.arange(len(shards)), none, none, none)


def numbers_of(shards: Entries, names: pa.Array) -> np.ndarray:
    """Return the number of the shard of each name, int64; -1 where there is none."""
    return _Lookup(shards).numbers(names.cast(pa.large_string()))


class _Lookup:
    """Shards of one source, and what was planned of each."""

    def __init__(self, shards: Entries) -> None:
        self._shards = shards
        hashes = _hashes(shards.names)
        self._order = np.argsort(hashes).astype(np.int32)
        self._hashes = hashes[self._order]
        self._known, self._changed, self._elsewhere = (np.zeros(len(shards), bool) for _ in range(3))
        self._sizes = np.zeros(len(shards), np.int64)

    def numbers(self, names: pa.Array) -> np.ndarray:
        """Return the number of the shard of each name, or -1 where there is none; exact whatever the hashes."""
        hashes, numbers = _hashes(names), np.full(len(names), -1, np.int64)
        at, left = np.searchsorted(self._hashes, hashes), np.arange(len(names))
        while len(left):
            left = left[at[left] < len(self._hashes)]
            left = left[self._hashes[at[left]] == hashes[left]]
            candidates = self._order[at[left]]
            names_there = self._shards.names.take(pa.array(candidates))
            same = pc.equal(names_there, names.take(pa.array(left))).to_numpy(zero_copy_only=False)
            numbers[left[same]] = candidates[same]
            left = left[~same]
            at[left] += 1
        return numbers

    def note(self, planned: pa.Table) -> pa.Array:
        """Note planned ranges; return the names of those whose shards are gone."""
        names = planned["shard"].combine_chunks().cast(pa.large_string())
        numbers = self.numbers(names)
        missing = names.filter(pa.array(numbers < 0))
        planned, numbers = planned.filter(pa.array(numbers >= 0)), numbers[numbers >= 0]
        if not len(numbers):
            return missing
        shards = self._shards.take(numbers)
        here = _equal(planned["url"], shards.urls)
        self._known[numbers] = True
        self._changed[numbers[here & ~_equal(planned["version"], shards.versions)]] = True
        self._elsewhere[numbers[~here]] = True
        np.add.at(self._sizes, numbers[~here], planned["size"].to_numpy()[~here])
        return missing

    def note_again(self, planned: pa.Table) -> None:
        """Note ranges of whole shards, instead of what was planned of these shards before."""
        numbers = self.numbers(planned["shard"].combine_chunks().cast(pa.large_string()))
        planned, numbers = planned.filter(pa.array(numbers >= 0)), numbers[numbers >= 0]
        if not len(numbers):
            return
        shards = self._shards.take(numbers)
        here = _equal(planned["url"], shards.urls)
        self._changed[numbers] = here & ~_equal(planned["version"], shards.versions)
        self._elsewhere[numbers] = ~here
        self._sizes[numbers] = planned["size"].to_numpy()

    def found(self) -> Found:
        elsewhere = np.flatnonzero(self._elsewhere)
        return Found(np.flatnonzero(~self._known), np.flatnonzero(self._changed), elsewhere, self._sizes[elsewhere])


def _equal(planned: pa.ChunkedArray, found: pa.Array) -> np.ndarray:
    return pc.equal(planned.combine_chunks().cast(pa.large_string()), found).to_numpy(zero_copy_only=False)


def _hashes(names: pa.Array) -> np.ndarray:
    """Return a hash of each name, int64: the same for equal names in one process."""
    hashes = np.empty(len(names), np.int64)
    for start in range(0, len(names), BATCH):
        part = names[start : start + BATCH].to_pylist()
        hashes[start : start + len(part)] = np.fromiter(map(hash, part), np.int64, len(part))
    return hashes
