"""WebDataset: tars whose files make a sample where they follow each other and share a name up to its first dot.

A tar has no table of contents. Its headers are gone through once in each process that needs them, and what they say is
kept in columns, so that a unit reads about its own bytes.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.errors import UserError
from pipeline.storage.retry import retrying
from pipeline.stores.forms.form import File, WritableForm
from pipeline.stores.forms.groups.recent import Recent
from pipeline.stores.forms.tars import foreign, own, ranges
from pipeline.stores.forms.tars.card import features_of_tar
from pipeline.stores.forms.tars.headers import TarError
from pipeline.stores.forms.tars.index import Index, index_of, joined_counts
from pipeline.stores.forms.tars.names import key_of
from pipeline.stores.forms.tars.writing import SCHEMA, SHA256, checksum, encode_tar
from pipeline.stores.tables.features import with_features
from pipeline.stores.tables.ranges import Pieces, Range, Ranges, cut_range, joined, row_keys
from pipeline.stores.tables.schema import (
    SHARD,
    ShardsDifferError,
    Store,
    check_columns,
    features_as_read,
    require_unchanged,
)

log = logging.getLogger("transdomain")

_THREADS = 8
_PIECE_BYTES, _PIECE_ROWS = 4_000_000, 1024
"""Bytes and samples of a range, beyond which another one begins."""
_KEYS = 65_536
_COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")

_indexes = Recent[Index](64_000_000, lambda index: index.held_bytes)
"""Cache, for this process, of the samples of tars."""
_layouts = Recent[foreign.Layout](1_000_000, lambda layout: 10_000)


class WebDataset(WritableForm):
    """WebDataset tars."""

    name, title, one, ending = "webdataset", "WebDataset tars", "WebDataset tar", ".tar"
    unlisted = "compressed tars, which cannot be read in parts (decompress them)"
    stands_alone = True

    def reads(self, name: str) -> bool:
        return name.lower().endswith((".tar", *_COMPRESSED))

    def lists(self, name: str) -> bool:
        return name.lower().endswith(".tar")

    def open(self, url: str, entries: storage.Entries, *, alike: bool = True) -> Store:
        """Return the store of these tars: the headers of the first one with samples are read, and some of its `.json`.

        All tars have to have the columns of the first one, whether or not they must be `alike`.
        """
        if any(not self.lists(name) for name in entries.names[:1].to_pylist()):
            raise UserError(f"{url}: a compressed tar cannot be read in parts; decompress it, and give the .tar")
        first = entries[0]
        for entry in entries:
            if len(index := _index(entry)):
                first = entry
                break
        else:
            index = _index(first)
        schema, layout = own.schema_of(index.heard.notes), None
        if schema is None:
            layout = _inferred(first, index)
            schema = layout.schema
        check_columns(schema, first.url, rows=len(index))
        survey = _Survey(url, entries, first, schema, layout)
        return Store(url, self.name, schema, entries, survey, looked_over=survey.passed_over)

    def read_range(self, piece: Range, columns: Sequence[str] | None, wants: Callable[[str], bool] | None) -> pa.Table:
        return _read_range(piece, columns, wants)

    def row_names(self, piece: Range) -> list[str]:
        return row_keys(piece)

    def keys(self, store: Store) -> Iterator[tuple[str, Sequence[str]]]:
        def read(piece: Range) -> tuple[str, list[str]]:
            return piece.url, _keys(_index(require_unchanged(piece)), piece.start, piece.stop)

        pieces = (each for whole in joined(store.ranges) for each in cut_range(whole, _KEYS, max(whole.size, 1)))
        yield from storage.ahead(read, pieces, _THREADS)

    def has_unique_keys(self, store: Store) -> bool:
        return False

    def encode(
        self, rows: pa.Table, notes: Mapping[str, str], column: str, extension: str
    ) -> tuple[bytes, Mapping[str, pa.Buffer]]:
        return encode_tar(rows, notes), {}

    def files(self, data: bytes) -> Sequence[File]:
        return ()

    def check(self, data: bytes) -> tuple[Mapping[str, str], int]:
        index = index_of(ranges.in_memory(data), len(data))
        notes = dict(index.heard.notes)
        if SHA256 in notes and notes[SHA256] != checksum(notes, memoryview(data)[index.heard.body :]):
            raise TarError("is damaged: its content does not have the checksum in its header")
        return {name: note for name, note in notes.items() if name not in (SCHEMA, SHA256)}, len(index)

    def columns(self, data: bytes, names: Sequence[str]) -> pa.Table:
        return _columns(io.BytesIO(data), index_of(ranges.in_memory(data), len(data)), names, None)

    def features(self, url: str) -> str:
        entry = storage.stat_file(url)
        schema = own.schema_of(_index(entry).heard.notes) if entry else None
        return features_of_tar(schema, _index(entry).endings) if entry and schema is not None else ""

    def read_columns(self, url: str, names: Sequence[str], *, first: int | None = None) -> pa.Table:
        entry = storage.stat_file(url)
        if entry is None:
            raise FileNotFoundError(2, "No such file", url)
        index = _index(entry)

        def fetch() -> pa.Table:
            with storage.open_read(url, entry) as file:
                return _columns(file, index, names, first)

        return retrying(fetch, url)


class _Survey:
    """Reader of the ranges of tars, which compares each with the first one."""

    def __init__(
        self,
        url: str,
        shards: storage.Entries,
        first: storage.Entry,
        schema: pa.Schema,
        layout: foreign.Layout | None,
    ) -> None:
        self._url, self._shards, self._first = url, shards, first
        self._schema, self._layout = schema, layout
        self._last: tuple[np.ndarray, Ranges] | None = None
        self._passed_over: dict[str, tuple[int, str]] = {}

    def __call__(self, which: np.ndarray) -> Ranges:
        if self._last is None or not np.array_equal(self._last[0], which):
            self._last = which, self._read(which)
        return self._last[1]

    def passed_over(self) -> tuple[storage.PassedOver, ...]:
        """Return what the tars that were looked at last hold beside samples."""
        return tuple(storage.PassedOver(reason, *counted) for reason, counted in self._passed_over.items())

    def _read(self, which: np.ndarray) -> Ranges:
        pieces, passed = Pieces(), dict[str, tuple[int, str]]()
        entries = self._shards if len(which) == len(self._shards) else self._shards.take(which)
        found = storage.told(
            storage.ahead(lambda entry: (entry, _index(entry)), entries, _THREADS),
            lambda count: f"{self._url}: read the headers of {count:,} of {len(which):,} tars",
        )
        for number, (entry, index) in zip(which.tolist(), found, strict=True):
            if entry != self._first and (why := self._misfit(index)):
                raise ShardsDifferError(
                    f"{entry.url}: differs from {self._first.url}: {why}; give them as stores apart"
                )
            if not index.heard.has_end:
                log.warning("%s: has no mark at its end, as if it had been cut off between two files", entry.url)
            edges = _edges(index.sizes)
            sums = np.concatenate([[0], np.cumsum(index.sizes)])
            pieces.add(number, np.diff(edges).tolist(), np.diff(sums[edges]).tolist())
            examples = {why: (n, f"{entry.name}: {name}") for why, (n, name) in index.passed_over.items()}
            passed = joined_counts([passed, examples])
        self._passed_over = passed
        return pieces.ranges(self._shards, self._layout.row_schema() if self._layout else None)

    def _misfit(self, index: Index) -> str:
        """Return why a tar has not the columns of the first one; empty where it has."""
        schema = own.schema_of(index.heard.notes)
        if not len(index):
            return ""
        if schema is not None and self._layout is None:
            if schema.equals(self._schema, check_metadata=True):
                return ""
            here, there = (dict(zip(each.names, map(str, each.types), strict=True)) for each in (schema, self._schema))
            differing = [name for name in here | there if here.get(name) != there.get(name)]
            said = [
                f"{name} is {here.get(name, 'missing')} instead of {there.get(name, 'missing')}" for name in differing
            ]
            return f"its columns are others ({'; '.join(said) or 'in their order or metadata'})"
        if schema is None and self._layout is not None:
            return foreign.misfit(index, self._layout)
        return "only one of them says the types of its columns"


def _edges(sizes: np.ndarray) -> np.ndarray:
    """Return where ranges of samples of these sizes begin, and the number of all samples."""
    sums, edges = np.cumsum(sizes), [0]
    while edges[-1] < len(sizes):
        before = int(sums[edges[-1] - 1]) if edges[-1] else 0
        full = int(np.searchsorted(sums, before + _PIECE_BYTES, "right"))
        edges.append(min(max(full, edges[-1] + 1), edges[-1] + _PIECE_ROWS, len(sizes)))
    return np.array(edges)


def _index(entry: storage.Entry) -> Index:
    """Return the samples of a tar, from its headers. Raises UserError where it is damaged."""

    def read() -> Index:
        def fetch() -> Index:
            with storage.open_read(entry.url, entry) as file:
                return index_of(ranges.skimming(file, near=storage.is_local(entry.url)), entry.size)

        try:
            return retrying(fetch, entry.url)
        except TarError as error:
            raise UserError(f"{entry.url} {error}") from None

    return _indexes.get((entry.url, entry.version), read)


def _keys(index: Index, start: int, stop: int) -> list[str]:
    names: list[str] = index.keys[start:stop].to_pylist()
    return list(map(key_of, names)) if SCHEMA in index.heard.notes else names


def _inferred(entry: storage.Entry, index: Index) -> foreign.Layout:
    """Return the layout of somebody else's tar, from its first samples."""

    def read() -> foreign.Layout:
        endings = [of for of in index.endings if of.lower() in ("json", "cls")]

        def fetch() -> list[dict[str, bytes]]:
            with storage.open_read(entry.url, entry) as file:
                return _files(file, index, np.arange(min(len(index), foreign.SAMPLES)), endings)

        found = [{ending.lower(): data for ending, data in files.items()} for files in retrying(fetch, entry.url)]
        return foreign.infer(index, found)

    return _layouts.get((entry.url, entry.version), read)


def _read_range(wanted: Range, columns: Sequence[str] | None, wants: Callable[[str], bool] | None) -> pa.Table:
    """Return rows of one tar; only files that hold something of these columns, of rows that are wanted, are fetched."""
    entry = require_unchanged(wanted)
    index = _index(entry)
    samples = np.arange(wanted.start, wanted.stop)
    if wants is not None:
        samples = samples[[wants(key) for key in _keys(index, wanted.start, wanted.stop)]]
    layout = foreign.layout_of(wanted.row_schema) if wanted.row_schema else None

    def fetch() -> pa.Table:
        with storage.open_read(wanted.url, entry) as file:
            return _table(file, index, samples, columns, layout, wanted.url)

    rows = retrying(fetch, wanted.url)
    return rows.append_column(SHARD, pa.array([wanted.shard] * len(rows), pa.string()))


def _columns(file: IO[bytes], index: Index, names: Sequence[str], first: int | None) -> pa.Table:
    """Return those of the named columns that one of our own tars has, for all rows or for the `first` ones."""
    samples = np.arange(len(index) if first is None else min(first, len(index)))
    rows = _table(file, index, samples, names, None, "")
    return rows.select([name for name in names if name in rows.column_names])


def _table(
    file: IO[bytes],
    index: Index,
    samples: np.ndarray,
    columns: Sequence[str] | None,
    layout: foreign.Layout | None,
    url: str,
) -> pa.Table:
    """Return these samples as rows with `key`, and of the other columns those named, or all."""
    schema = own.schema_of(index.heard.notes)
    if schema is None:
        if layout is None:
            raise TarError("says no types of its columns, so it is none that a job wrote")
        names = layout.schema.names if columns is None else ["key", *columns]
        known = layout.columns
        endings = [of for of in index.endings if _is_needed(known.get(of.lower()), names, layout)]
        keys = index.keys.take(pa.array(samples)).to_pylist()
        return foreign.table_of(layout, names, keys, _files(file, index, samples, endings), url)
    names = schema.names if columns is None else ["key", *columns]
    endings = [of for of in index.endings if own.is_needed(of, schema, names)]
    keys = list(map(key_of, index.keys.take(pa.array(samples)).to_pylist()))
    rows = own.table_of(schema, names, keys, _files(file, index, samples, endings))
    return with_features(rows, features_as_read(rows.schema))


def _is_needed(column: foreign.Column | None, names: Sequence[str], layout: foreign.Layout) -> bool:
    if column is None:  # an image's, which shares a column with others
        return True
    if column.kind == "fields":
        return any(name not in layout.own or name == foreign.REST for name in names)
    return column.name in names


def _files(file: IO[bytes], index: Index, samples: np.ndarray, endings: Sequence[str]) -> list[dict[str, bytes]]:
    """Return, for each of these samples, its files that have one of the endings, by ending."""

    def read(offset: int, size: int) -> bytes:
        file.seek(offset)
        return file.read(size)

    counts = index.first[samples + 1] - index.first[samples]
    of = np.repeat(np.arange(len(samples)), counts)
    at = np.repeat(index.first[samples] - np.cumsum(counts) + counts, counts) + np.arange(len(of))
    chosen = np.isin(index.ending[at], [i for i, ending in enumerate(index.endings) if ending in set(endings)])
    of, at = of[chosen], at[chosen]
    found: list[dict[str, bytes]] = [{} for _ in range(len(samples))]
    contents = ranges.fetched(read, index.offset[at], index.size[at])
    for sample, ending, data in zip(of.tolist(), index.ending[at].tolist(), contents, strict=True):
        found[sample][index.endings[ending]] = data
    return found
