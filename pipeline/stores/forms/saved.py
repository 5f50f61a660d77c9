"""Data sets that `datasets` has saved by save_to_disk: Arrow streams beside a state.json that names them.

Only a data set itself is a store: of a DatasetDict, the splits are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.errors import UserError
from pipeline.storage.retry import retrying
from pipeline.stores.forms.arrow.messages import ArrowError, Batches, batches_of
from pipeline.stores.forms.form import StoreForm
from pipeline.stores.forms.groups.recent import Recent
from pipeline.stores.forms.tars.ranges import skimming
from pipeline.stores.tables.conforming import named
from pipeline.stores.tables.features import with_features
from pipeline.stores.tables.ranges import Pieces, Range, Ranges, row_keys
from pipeline.stores.tables.schema import (
    SHARD,
    ShardsDifferError,
    Store,
    as_read,
    check_columns,
    features_as_read,
    require_unchanged,
)

_THREADS = 8
_DATA = re.compile(r"(?:.*/)?(?:data-\d+-of-\d+|dataset)\.arrow", re.DOTALL)

_batches = Recent[Batches](16_000_000, lambda held: len(held.head) + 24 * len(held.rows))
_tables = Recent[pa.Table](128_000_000, lambda table: int(table.nbytes))
"""Cache, for this process, of the batches that were read last: `datasets` has a thousand rows in one."""


class SavedDataset(StoreForm):
    """Arrow files that save_to_disk has written."""

    name, title, one = "arrow", "Arrow files of save_to_disk", "data set of save_to_disk"
    unlisted = "Arrow files that save_to_disk has not written"

    def reads(self, name: str) -> bool:
        return name.endswith(".arrow")

    def lists(self, name: str) -> bool:
        return name.endswith(".arrow") and _DATA.fullmatch(name) is not None

    def open(self, url: str, entries: storage.Entries, *, alike: bool = True) -> Store:
        """Return the store of these files, which must be those that the state.json of their folders name.

        Raises UserError where one is missing, where a DatasetDict is given for one of its splits, or a data set is
        saved as a selection of the rows in its files.
        """
        base = url.partition("*")[0].rpartition("/")[0] if "*" in url else url
        if "*" not in url and (data := storage.read_if_there(f"{base}/dataset_dict.json")) is not None:
            splits = [f"{base}/{name}" for name in _parsed(f"{base}/dataset_dict.json", data).get("splits", [])]
            raise UserError(f"{url}: a DatasetDict has several data sets; give one of them: {', '.join(splits)}")
        folders = {name.rpartition("/")[0] for names in entries.name_batches() for name in names}
        for folder in sorted(folders):
            _check_state("/".join(filter(None, (entries.base, folder))), entries, folder)
        first = entries[0]
        schema = _schema(first)
        return Store(url, self.name, schema, entries, _Survey(url, entries, first, schema))

    def read_range(self, piece: Range, columns: Sequence[str] | None, wants: Callable[[str], bool] | None) -> pa.Table:
        rows = _read_range(piece, columns)
        return rows if wants is None else rows.filter(pa.array(map(wants, rows["key"].to_pylist()), pa.bool_()))

    def row_names(self, piece: Range) -> list[str]:
        return row_keys(piece)

    def keys(self, store: Store) -> Iterator[tuple[str, Sequence[str]]]:
        for piece in store.ranges:
            if "key" not in store.schema.names:
                yield piece.url, self.row_names(piece)
            else:
                yield piece.url, _read_range(piece, [])["key"].to_pylist()

    def has_unique_keys(self, store: Store) -> bool:
        return "key" not in store.schema.names


class _Survey:
    """Reader of the ranges of files, which compares each with the first one."""

    def __init__(self, url: str, shards: storage.Entries, first: storage.Entry, schema: pa.Schema) -> None:
        self._url, self._shards, self._first, self._schema = url, shards, first, schema

    def __call__(self, which: np.ndarray) -> Ranges:
        pieces = Pieces()
        entries = self._shards if len(which) == len(self._shards) else self._shards.take(which)
        found = storage.ahead(lambda entry: (entry, _schema(entry), _heads(entry)), entries, _THREADS)
        for number, (entry, schema, held) in zip(which.tolist(), found, strict=True):
            if not schema.equals(self._schema, check_metadata=False):
                pairs = zip(schema, self._schema, strict=False)
                said = next((f"{one} instead of {other}" for one, other in pairs if one != other), "other columns")
                raise ShardsDifferError(f"{entry.url} differs from {self._first.url}: {said}; make them stores apart")
            pieces.add(number, held.rows.tolist(), held.size.tolist())
        return pieces.ranges(self._shards)


def _check_state(folder: str, entries: storage.Entries, inside: str) -> None:
    """Raise UserError unless a folder's files are those that its state.json names."""
    url = f"{folder}/state.json"
    data = storage.read_if_there(url)
    if data is None:
        raise UserError(f"{folder}: has Arrow files and no state.json, so save_to_disk did not end; save it again")
    said = _parsed(url, data)
    if any(value for name, value in said.items() if name.startswith("_indices")):
        raise UserError(f"{folder}: is a selection of the rows in its files; save it again after flatten_indices()")
    files = said.get("_data_files")
    names = [each.get("filename") for each in files if isinstance(each, dict)] if isinstance(files, list) else []
    named = {"/".join(filter(None, (inside, str(name)))) for name in names}
    here = {
        e.name for e in entries[entries.below(f"{inside}/" if inside else "")] if e.name.rpartition("/")[0] == inside
    }
    if named != here:
        what = "lacks" if named - here else "has besides the files that its state.json names"
        raise UserError(f"{folder}: {what} {', '.join(sorted(named - here or here - named)[:3])}; save it again")


def _parsed(url: str, data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{url} is no JSON object; save the data set again")
    return found


def _heads(entry: storage.Entry) -> Batches:
    """Return the batches of a file, from the heads of its messages. Raises UserError where it is damaged."""

    def read() -> Batches:
        def fetch() -> Batches:
            with storage.open_read(entry.url, entry) as file:
                return batches_of(skimming(file, near=storage.is_local(entry.url)), entry.size)

        try:
            return retrying(fetch, entry.url)
        except ArrowError as error:
            raise UserError(f"{entry.url} {error}") from None

    return _batches.get((entry.url, entry.version), read)


def _schema(entry: storage.Entry) -> pa.Schema:
    """Return the columns of a file, as its rows come."""
    try:
        found = _heads(entry).schema
    except ArrowError as error:
        raise UserError(f"{entry.url} {error}") from None
    check_columns(found, entry.url, rows=int(_heads(entry).rows.sum()))
    return with_features(pa.schema(list(map(as_read, found))), features_as_read(found))


def _read_range(wanted: Range, columns: Sequence[str] | None) -> pa.Table:
    """Return rows of one file; the batches that they are in are fetched whole."""
    entry = require_unchanged(wanted)
    held = _heads(entry)
    ends = np.cumsum(held.rows)
    tables = []
    first, last = np.searchsorted(ends, [wanted.start, wanted.stop - 1], "right")
    for number in range(int(first), int(last) + 1):
        begin = int(ends[number] - held.rows[number])
        table = _tables.get((entry.url, entry.version, number), lambda number=number: _batch(entry, held, number))  # type: ignore[misc]
        start, stop = max(wanted.start - begin, 0), min(wanted.stop - begin, len(table))
        names = (
            table.column_names
            if columns is None
            else [c for c in dict.fromkeys(["key", *columns]) if c in table.column_names]
        )
        tables.append(table.select(names).slice(start, stop - start))
    return _as_rows(pa.concat_tables(tables), wanted)


def _batch(entry: storage.Entry, held: Batches, number: int) -> pa.Table:
    def fetch() -> pa.Table:
        with storage.open_read(entry.url, entry) as file:
            file.seek(int(held.offset[number]))
            return held.table(file.read(int(held.size[number])))

    return retrying(fetch, entry.url)


def _as_rows(table: pa.Table, of: Range) -> pa.Table:
    """Return the columns of a range as a store gives them, with the keys of its rows."""
    features = features_as_read(table.schema)
    fields = list(map(as_read, table.schema))
    columns = [c if c.type == f.type else c.cast(f.type) for c, f in zip(table.columns, fields, strict=True)]
    rows = with_features(pa.Table.from_arrays(columns, schema=pa.schema(fields)), features)
    if "key" not in rows.column_names or rows["key"].null_count:
        rows = named(rows, of.shard, row_keys(of), None)
    return rows.append_column(SHARD, pa.array([of.shard] * len(rows), pa.string()))
