"""Labels of images by key: which rows have an image, and the few rows that a worker needs for its unit.

The rows lie in the output as one Parquet file, sorted by key, under a name that follows from their content. A worker
reads those row groups whose keys are around those of its unit.
"""

from __future__ import annotations

import bisect
import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.errors import UserError
from pipeline.pack.config import Match
from pipeline.pack.labels import Labels, in_order
from pipeline.storage.retry import retrying
from pipeline.stores import Store, store_keys
from pipeline.stores.forms.registry import form_named
from pipeline.stores.forms.trees import Trees, key_of

FOLDER = "_transdomain/labels/"
_GROUP_ROWS = 8192
_STEM = r"([^/])\.[^./]*$"
_TEXT = pa.large_string()


def stems(keys: pa.Array, match: Match) -> pa.Array:
    """Return what the labels call these keys."""
    return keys if match == "key" else pc.replace_substring_regex(keys, _STEM, r"\1")


def known_keys(store: Store) -> pa.LargeStringArray | None:
    """Return the key of each shard of a store where their names say them; None where the shards have to be read."""
    if not form_named(store.form).names_are_keys:
        return None
    names = store.shards.names
    if store.form != Trees.name:
        return names
    each = (key_of(name) for names in store.shards.name_batches() for name in names)
    return pa.array(each, _TEXT)


def all_keys(store: Store) -> pa.LargeStringArray:
    """Return the keys of a store, except null keys; the columns of keys are read for it where necessary."""
    known = known_keys(store)
    if known is not None:
        return known
    chunks = [pa.array(keys, _TEXT) for _, keys in store_keys(store)]
    return pa.concat_arrays(chunks) if chunks else pa.array([], _TEXT)


class Joined(NamedTuple):
    """How rows of labels and images meet."""

    both: int
    """Number of images with a row."""
    images: pa.Array
    """Keys of the images without a row."""
    rows: pa.Array
    """Keys of the rows without an image."""


def joined(keys: pa.LargeStringArray, labels: Labels, match: Match, url: str) -> Joined:
    """Compare the keys of a store at `url` with those of the labels.

    Raises UserError where none of them meet, or where several images have the stem by which they are to be joined.
    """
    called = stems(keys, match)
    if match == "stem":
        counted = pc.value_counts(called)
        several = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
        if len(several):
            of = keys.filter(pc.equal(called, several[0]))[:3].to_pylist()
            raise UserError(
                f"{url}: {', '.join(of)} have the same key without its ending, and a row of {labels.name} is to be of "
                "one image; name the images whole in it, without --labels_match stem"
            )
    has_row = pc.is_in(called, value_set=labels.keys)
    has_image = pc.is_in(labels.keys, value_set=called)
    both = pc.sum(has_row, min_count=0).as_py()
    if not both and len(keys) and len(labels.keys):
        hint = ""
        if match == "key" and pc.any(pc.is_in(stems(keys, "stem"), value_set=labels.keys)).as_py():
            hint = "; the keys without their ending do: add --labels_match stem"
        raise UserError(
            f"{labels.url}: none of its {len(labels.keys):,} rows names an image of {url}: it has {labels.keys[0]}, "
            f"the images have {keys[0]}{hint or '; give the right column as --labels_key, or write the keys like this'}"
        )
    return Joined(both, keys.filter(pc.invert(has_row)), labels.keys.filter(pc.invert(has_image)))


def encoded(labels: Labels) -> bytes:
    """Return the rows as a Parquet file, sorted by key; the same rows give the same bytes."""
    buffer, writer = io.BytesIO(), None
    for rows in in_order(labels, _GROUP_ROWS):
        writer = writer or pq.ParquetWriter(buffer, rows.schema, compression="zstd", write_page_checksum=True)
        writer.write_table(rows.combine_chunks(), row_group_size=_GROUP_ROWS)
    if writer is None:
        empty = pa.schema([("key", _TEXT), *labels.columns.schema]).empty_table()
        writer = pq.ParquetWriter(buffer, empty.schema)
    writer.close()
    return buffer.getvalue()


@dataclass(frozen=True)
class Lookup:
    """Reader of labels, for workers: the file in the output, and how keys are called in it."""

    url: str
    schema: pa.Schema
    """Columns that it gives."""
    match: Match

    def rows_of(self, keys: Sequence[str]) -> pa.Table:
        """Return the labels of images with these keys, a row each, in this order; nulls where there are none."""
        called = stems(pa.array(keys, _TEXT), self.match)
        names = self.schema.names
        if not keys:
            return self.schema.empty_table()
        ends = _ends(self.url)
        wanted = sorted(set(called.to_pylist()))
        groups = sorted({group for key in wanted if (group := bisect.bisect_left(ends, key)) < len(ends)})
        tables, values = [pa.schema([("key", _TEXT), *self.schema]).empty_table()], pa.array(wanted, _TEXT)
        for group in groups:
            rows = _group(self.url, group).select(["key", *names])
            tables.append(rows.filter(pc.is_in(rows["key"], value_set=values)))
        found = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
        at = pc.index_in(called, value_set=found["key"].combine_chunks())
        return found.select(names).take(at).cast(self.schema)


def with_labels(rows: pa.Table, lookup: Lookup) -> pa.Table:
    """Return the rows with their labels as further columns."""
    labels = lookup.rows_of(rows["key"].to_pylist())
    for field in lookup.schema:
        rows = rows.append_column(field, labels[field.name])
    return rows


def _read(url: str, decode: Callable[[pq.ParquetFile], Any]) -> Any:
    def fetch() -> Any:
        with storage.open_read(url) as file:
            return decode(pq.ParquetFile(file, page_checksum_verification=True))

    return retrying(fetch, url)


@functools.lru_cache(maxsize=8)
def _ends(url: str) -> list[str]:
    """Return the last key of each row group. The object never changes."""
    return _read(url, lambda file: [_last_key(file, i) for i in range(file.metadata.num_row_groups)])


def _last_key(file: pq.ParquetFile, group: int) -> str:
    statistics = file.metadata.row_group(group).column(0).statistics
    if statistics is not None and statistics.has_min_max:
        last: str = statistics.max
        return last
    keys = file.read_row_group(group, columns=["key"])["key"]
    return str(keys[len(keys) - 1].as_py())


@functools.lru_cache(maxsize=3)
def _group(url: str, group: int) -> pa.Table:
    table: pa.Table = _read(url, lambda file: file.read_row_group(group))
    return table


def positions(keys: pa.LargeStringArray, labels: Labels, match: Match) -> np.ndarray:
    """Return the row of the labels that each key has, int64; -1 where it has none."""
    found = pc.index_in(stems(keys, match), value_set=labels.keys)
    return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)
