"""Survey of the Parquet shards of a store: which columns they share, and the ranges of their row groups.

Opening a store takes the footer of its first shard, which says what the columns are. The others are read when their
ranges are asked for, and compared with it then. No footer is kept: of each shard, some bytes a row group are.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.errors import DamagedError, UserError
from pipeline.storage.retry import BadBody, retrying
from pipeline.stores.forms import hive
from pipeline.stores.tables.features import Features, class_names, differing_classes, features_of, united, with_features
from pipeline.stores.tables.ranges import Pieces, Ranges
from pipeline.stores.tables.schema import (
    ShardsDifferError,
    Store,
    as_read,
    check_columns,
    features_as_read,
)

log = logging.getLogger("transdomain")

_FOOTER_THREADS = 16


def open_shards(url: str, entries: storage.Entries, *, alike: bool = True) -> Store:
    """Return the store of these shards, with a range for each row group, or for even pieces of a large one.

    Its columns, including those in folder names, are those of the first shard, whose footer alone is read; the others
    are compared with it when they are looked at. Where they need not be `alike`, every footer is read at once, and the
    columns are the ones that all shards have with the same type. Raises UserError where a shard is not a Parquet file,
    its keys have an impossible type, or, with `alike`, its columns or class names differ from those of the first shard.
    """
    first = entries[0]
    footer = _footer(first)
    survey = _Survey(url, entries, first, footer, _schema(first, footer))
    if alike:
        return Store(url, "parquet", survey.schema, entries, survey)
    ranges, schema = survey.read(np.arange(len(entries)), alike=False)
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
        schema, features, pieces = self.schema, features_of(self.schema), Pieces()
        contradictions = list[str]()
        found = storage.told(
            self._footers(which), lambda count: f"{self.url}: read {count:,} of {len(which):,} footers"
        )
        for number, (entry, footer) in zip(which.tolist(), found, strict=True):
            if not self._is_like_first(entry, footer):
                other = _schema(entry, footer)
                differing = differing_classes(features, features_of(other))
                if alike and (other != schema or differing):
                    classes = "; ".join(map(": ".join, differing.items()))
                    how = _difference(schema, other) if other != schema else classes
                    raise ShardsDifferError(f"{entry.url}: columns differ from {self.first.url}: {how}")
                if other != schema or differing:
                    schema = _in_common(schema, other, differing, entry.url)
                features = united(features, features_of(other))
            groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
            pieces.add(number, [g.num_rows for g in groups], [g.total_byte_size for g in groups])
            if how := " and ".join(hive.contradictions(entry.name, footer).values()):
                contradictions.append(f"{entry.url}: {how}")
        if alike and len(which) < len(self.shards) and _name_more(features, features_of(self.schema)):
            # Another shard, planned before, may name other classes than these do, where the first one names none.
            ranges, schema = self.read(np.arange(len(self.shards)), alike=True)
            return ranges.of_shards(which), schema
        if contradictions:
            more = len(contradictions) - 1
            log.warning("%s; the shard is believed, here and in %d other shards", contradictions[0], more)
        return pieces.ranges(self.shards), with_features(schema, features)

    def _footers(self, which: np.ndarray) -> Iterator[tuple[storage.Entry, pq.FileMetaData]]:
        def read(entry: storage.Entry) -> tuple[storage.Entry, pq.FileMetaData]:
            return entry, self.footer if entry == self.first else _footer(entry)

        entries = self.shards if len(which) == len(self.shards) else self.shards.take(which)
        return storage.ahead(read, entries, _FOOTER_THREADS)

    def _is_like_first(self, entry: storage.Entry, footer: pq.FileMetaData) -> bool:
        """Return True where it takes no long look to see that a shard has the columns of the first one."""
        said, first = footer.metadata or {}, self.footer.metadata or {}
        return (
            hive.path_values(entry.name).keys() == hive.path_values(self.first.name).keys()
            and (self.footer.num_rows > 0 or footer.num_rows == 0)  # without rows, nothing was checked
            and all(said.get(name) == first.get(name) for name in (b"ARROW:schema", b"huggingface"))
            and footer.schema.equals(self.footer.schema)
        )


def _name_more(features: Features, before: Features) -> bool:
    """Return True where `features` name classes of a column whose classes were not named `before`."""
    return any(class_names(feature) != class_names(before.get(name)) for name, feature in features.items())


def _schema(entry: storage.Entry, footer: pq.FileMetaData) -> pa.Schema:
    """Return the columns of one shard, as its rows come."""
    found = footer.schema.to_arrow_schema()
    check_columns(found, entry.url, rows=footer.num_rows)
    more = hive.fields(entry.name, found.names)
    check_columns(pa.schema(more), entry.url, rows=0)
    if any(field.name == "key" for field in more):
        raise UserError(f"{entry.url}: a folder cannot name the column key, which tells rows apart; rename the folder")
    return with_features(pa.schema([*map(as_read, found), *more]), features_as_read(found))


def _in_common(schema: pa.Schema, other: pa.Schema, differing: Collection[str], url: str) -> pa.Schema:
    """Return the columns that both schemas have with the same meaning.

    Raises ShardsDifferError where they do not share the column of keys, which tell rows apart.
    """
    fields = set(other)
    common = pa.schema([field for field in schema if field in fields and field.name not in differing])
    if "key" not in common.names and "key" in (*schema.names, *other.names):
        raise ShardsDifferError(f"{url}: its column key is not that of the other shards; all have it alike, or none")
    return common


def _difference(expected: pa.Schema, found: pa.Schema) -> str:
    missing = [f"{f.name}: {f.type} missing" for f in expected if f.name not in found.names]
    more = [f"{f.name}: {f.type} unexpected" for f in found if f.name not in expected.names]
    other = [
        f"{f.name}: {found.field(f.name).type} instead of {f.type}"
        for f in expected
        if f.name in found.names and found.field(f.name).type != f.type
    ]
    nulls = [
        f"{f.name}: {'with' if found.field(f.name).nullable else 'without'} nulls, unlike there"
        for f in expected
        if f.name in found.names and found.field(f.name).nullable != f.nullable
    ]
    return "; ".join(missing + more + other + nulls) or "other order"


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
