"""Survey of the Parquet shards of a store: which columns they share, and the ranges of their row groups.

Opening a store takes the footer of its first shard with rows, which says what the columns are. The others are read when
their ranges are asked for, and compared with it then. No footer is kept: of each shard, some bytes a row group are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.errors import DamagedError, UserError
from pipeline.storage.retry import BadBody, retrying
from pipeline.stores.forms import hive
from pipeline.stores.forms.groups.sample import require_bytes, unusual_pictures
from pipeline.stores.tables.features import features_of, with_features
from pipeline.stores.tables.merging import DifferError, Merged, columns_as_read, names_more_classes
from pipeline.stores.tables.options import STANDARD, KeyRule, StoreOptions
from pipeline.stores.tables.ranges import Pieces, Ranges
from pipeline.stores.tables.row_schema import RowSchema
from pipeline.stores.tables.schema import ShardsDifferError, Store, check_columns, features_as_read

log = logging.getLogger("transdomain")

_FOOTER_THREADS = 16


def open_shards(url: str, entries: storage.Entries, *, alike: bool = True, options: StoreOptions = STANDARD) -> Store:
    """Return the store of these shards, with a range for each row group, or for even pieces of a large one.

    Its columns, including those in folder names, are those of the first shard with rows, whose footer is read. The
    others are compared with it when they are looked at, and may differ in ways that change no value. Where they need
    not be `alike`, or columns may be missing, every footer is read at once, and the columns are those that all shards
    have, or any of them. Raises UserError where a shard is not a Parquet file, its keys have an impossible type, its
    pictures are elsewhere, or, with `alike`, its columns or class names do not go with those of the others.
    """
    first, footer = _first_with_rows(entries)
    found = footer.schema.to_arrow_schema()
    pictures = unusual_pictures(first, footer, found, options.pictures)
    survey = _Survey(url, entries, first, footer, _schema(first, footer, pictures), options, pictures)
    require_bytes(_footers(entries), first, footer, survey.schema)
    if alike and options.missing_columns == "fail":
        return Store(url, "parquet", survey.schema, entries, survey)
    ranges, schema = survey.read(np.arange(len(entries)), alike=alike)
    return Store(url, "parquet", schema, entries, ranges.of_shards)


@dataclass
class _Survey:
    """Reader of the ranges of shards, which compares each with the first one."""

    url: str
    shards: storage.Entries
    first: storage.Entry
    footer: pq.FileMetaData
    """Footer of the first shard."""
    schema: pa.Schema
    """Columns of the first shard, as its rows come."""
    options: StoreOptions
    pictures: frozenset[str]
    """Columns of pictures in an unusual form."""
    _last: tuple[np.ndarray, Ranges] | None = field(default=None, init=False)
    """Latest answer: several jobs may ask the same of a store."""

    def __call__(self, which: np.ndarray) -> Ranges:
        if self._last is None or not np.array_equal(self._last[0], which):
            self._last = which, self.read(which, alike=True)[0]
        return self._last[1]

    def read(self, which: np.ndarray, *, alike: bool) -> tuple[Ranges, pa.Schema]:
        """Return the ranges of these shards, and the columns that they have in common with the first one.

        Raises ShardsDifferError where they must be `alike` and are not.
        """
        merged, pieces = Merged(self.schema, self.first.url, self.options.missing_columns), Pieces()
        contradictions, keyless = list[str](), _Keyless()
        found = storage.told(
            self._footers(which), lambda count: f"{self.url}: read {count:,} of {len(which):,} footers"
        )
        for number, (entry, footer) in zip(which.tolist(), found, strict=True):
            if footer.num_rows and entry != self.first:
                self._merge(merged, entry, footer, alike=alike)
            groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
            pieces.add(number, [g.num_rows for g in groups], [g.total_byte_size for g in groups])
            keyless.count(entry, footer, groups)
            if how := " and ".join(hive.contradictions(entry.name, footer).values()):
                contradictions.append(f"{entry.url}: {how}")
        said = features_of(merged.schema)
        if alike and len(which) < len(self.shards) and names_more_classes(said, features_of(self.schema)):
            # Another shard, planned before, may name other classes than these do, where the first one names none.
            ranges, schema = self.read(np.arange(len(self.shards)), alike=True)
            return ranges.of_shards(which), schema
        if contradictions:
            more = len(contradictions) - 1
            log.warning("%s; the shard is believed, here and in %d other shards", contradictions[0], more)
        if changed := [f"{f.name}: {f.type}" for f in merged.schema if f.name in merged.changed]:
            log.info("%s: shards have columns in several types; rows come with %s", self.url, ", ".join(changed))
        # A look at the first shard alone comes before all of them are read, and would say it twice.
        is_look = len(which) == 1 < len(self.shards) and which[0] == 0
        for line in () if is_look else (*keyless.said(), *(f"null stands for the column {c}" for c in merged.filled())):
            log.warning("%s: %s", self.url, line)
        return pieces.ranges(self.shards, self._row_schema(merged)), merged.schema

    def _merge(self, merged: Merged, entry: storage.Entry, footer: pq.FileMetaData, *, alike: bool) -> None:
        if self._is_like_first(entry, footer):
            merged.add_alike(entry.url)
            return
        other = _schema(entry, footer, self.pictures)
        if alike:
            try:
                merged.add(other, entry.url)
            except DifferError as error:
                how = f"{error}{error.advice}"
                raise ShardsDifferError(f"{entry.url}: columns differ from {self.first.url}: {how}") from None
            return
        merged.keep_common(other)
        if "key" not in merged.schema.names and "key" in (*self.schema.names, *other.names):
            raise ShardsDifferError(
                f"{entry.url}: its column key is not that of the other shards; all have it alike, or none"
            )

    def _row_schema(self, merged: Merged) -> RowSchema | None:
        """Return how rows come; None where they come as each shard has them."""
        keys: KeyRule = self.options.keys if "key" in merged.schema.names else "own"
        if not merged.varies and not self.pictures and keys == "own":
            return None
        return RowSchema(merged.schema, keys)

    def _footers(self, which: np.ndarray) -> Iterator[tuple[storage.Entry, pq.FileMetaData]]:
        entries = self.shards if len(which) == len(self.shards) else self.shards.take(which)
        return _footers(entries, (self.first, self.footer))

    def _is_like_first(self, entry: storage.Entry, footer: pq.FileMetaData) -> bool:
        """Return True where it takes no long look to see that a shard has the columns of the first one."""
        said, first = footer.metadata or {}, self.footer.metadata or {}
        return (
            hive.path_values(entry.name).keys() == hive.path_values(self.first.name).keys()
            and (self.footer.num_rows > 0 or footer.num_rows == 0)  # without rows, nothing was checked
            and all(said.get(name) == first.get(name) for name in (b"ARROW:schema", b"huggingface"))
            and footer.schema.equals(self.footer.schema)
        )


class _Keyless:
    """Count of rows whose key is null, as far as footers tell."""

    def __init__(self) -> None:
        self._rows, self._one = 0, ""

    def count(self, entry: storage.Entry, footer: pq.FileMetaData, groups: Sequence[pq.RowGroupMetaData]) -> None:
        leaves = ((i, footer.schema.column(i)) for i, name in enumerate(footer.schema.names) if name == "key")
        at = next((i for i, leaf in leaves if leaf.path == "key" and leaf.max_definition_level), None)
        if at is None:
            return
        for group in groups:
            statistics = group.column(at).statistics
            nulls = statistics.null_count if statistics is not None and statistics.has_null_count else 0
            self._rows, self._one = self._rows + nulls, self._one or (entry.url if nulls else "")

    def said(self) -> list[str]:
        return (
            [f"{self._rows} rows have no key, such as in {self._one}; they are named SHARD#ROW"] if self._rows else []
        )


def _schema(entry: storage.Entry, footer: pq.FileMetaData, pictures: frozenset[str]) -> pa.Schema:
    """Return the columns of one shard, as its rows come."""
    found = footer.schema.to_arrow_schema()
    check_columns(found, entry.url, rows=footer.num_rows)
    more = hive.fields(entry.name, found.names)
    check_columns(pa.schema(more), entry.url, rows=0)
    if any(field.name == "key" for field in more):
        raise UserError(f"{entry.url}: a folder cannot name the column key, which tells rows apart; rename the folder")
    fields = columns_as_read(found, pictures)
    said = {name: said for name, said in features_as_read(found).items() if name not in pictures}
    return with_features(pa.schema([*fields, *more]), said)


def _footers(
    entries: storage.Entries, known: tuple[storage.Entry, pq.FileMetaData] | None = None
) -> Iterator[tuple[storage.Entry, pq.FileMetaData]]:
    """Yield the footers of shards, in order, some read ahead."""

    def read(entry: storage.Entry) -> tuple[storage.Entry, pq.FileMetaData]:
        return known if known and entry == known[0] else (entry, _footer(entry))

    return storage.ahead(read, entries, _FOOTER_THREADS)


def _first_with_rows(entries: storage.Entries) -> tuple[storage.Entry, pq.FileMetaData]:
    """Return the first shard that has rows, and its footer; the very first where none has."""
    first = entries[0], _footer(entries[0])
    # Not read ahead: most often it is the first or the second one.
    each = (first if entry == first[0] else (entry, _footer(entry)) for entry in entries)
    return next((found for found in each if found[1].num_rows), first)


def read_footer(entry: storage.Entry) -> pq.FileMetaData:
    """Read the footer of a shard. Raises DamagedError where it has none."""

    def fetch() -> pq.FileMetaData:
        with storage.open_read(entry.url, entry) as file:
            return pq.read_metadata(file)

    return retrying(fetch, entry.url)


def _footer(entry: storage.Entry) -> pq.FileMetaData:
    try:
        return read_footer(entry)
    except DamagedError as error:
        if isinstance(error.__cause__, BadBody):
            raise
        raise UserError(f"{entry.url}: not a readable Parquet file ({error.__cause__})") from None
