"""Stores that a split makes of one source: by the values of a column, or by a list of keys.

Where names are keys, the shards of a source are divided before anything is planned, so that each store has only inputs
of its own. In Parquet a shard has rows of several stores: each of them plans all, and skips those of the others.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.engine.records.units import Unit
from pipeline.errors import UserError
from pipeline.pack.config import Match
from pipeline.pack.joining import Lookup, all_keys, known_keys, positions
from pipeline.pack.joining import joined as joined_labels
from pipeline.pack.labels import Labels, read_labels
from pipeline.stores import Store, read_rows, read_unchanged_rows
from pipeline.stores.selection import Selection, only_shards
from pipeline.stores.tables.ranges import cut_range, joined

MOST_VALUES = 100
_NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]*\w)?")
_ROWS = 65_536
_THREADS = 8
SPLIT, KEY = "split", "key"
"""Columns of a list of splits."""

Wants = Callable[[str], bool]


class Wanted(Protocol):
    """Rule by which a worker finds the rows of a unit that a store wants."""

    def of_unit(self, unit: Unit, schema: pa.Schema, changes_are_borne: bool) -> Wants:
        """Return a function that says whether the row of a key is wanted.

        `schema` is the source's. Where changes are borne, shards that have changed since planning have no rows.
        """


@dataclass(frozen=True)
class Part:
    """One of the stores that are made of a source."""

    folder: str
    """Folder of its output below that of the job; empty where there is one store."""
    source: Store
    """All inputs, or those of this part."""
    wants: Wanted | None = None
    """Rule for its rows; None where they are all those of `source`."""
    record: Any = None
    """What a recipe says of it."""


@dataclass(frozen=True)
class ByHash:
    """Rows by a seeded hash of their key."""

    selection: Selection

    def of_unit(self, unit: Unit, schema: pa.Schema, changes_are_borne: bool) -> Wants:
        return self.selection.wants


@dataclass(frozen=True)
class ByColumn:
    """Rows by a column of the source, or of a file in the output that knows their keys."""

    column: str
    value: str
    """Value as text."""
    lookup: Lookup | None = None
    """Reader of that file."""

    def of_unit(self, unit: Unit, schema: pa.Schema, changes_are_borne: bool) -> Wants:
        columns = [] if self.lookup else [self.column]
        if changes_are_borne:
            rows, _ = read_unchanged_rows(unit.ranges, schema, columns)
        else:
            rows = read_rows(unit.ranges, columns)
        keys = rows[KEY].to_pylist()
        values = (self.lookup.rows_of(keys) if self.lookup else rows)[self.column]
        return {
            key for key, value in zip(keys, as_text(values).to_pylist(), strict=True) if value == self.value
        }.__contains__


def as_text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the values of a column by which a store is split as text; empty ones are null."""
    kind = values.type
    values = values.cast(kind.value_type) if pa.types.is_dictionary(kind) else values
    text = values.cast(pa.large_string())
    return pc.if_else(pc.not_equal(text, ""), text, pa.scalar(None, pa.large_string()))


def by_list(source: Store, url: str) -> list[Part]:
    """Return a part for each split that a list names. Raises UserError where the list does not fit the source."""
    listed = read_labels(url, KEY)
    names = listed.columns.column_names
    if SPLIT not in names:
        raise UserError(f"{url}: no column {SPLIT}; it has {', '.join([KEY, *names])}: call them {KEY} and {SPLIT}")
    listed = replace(listed, columns=listed.columns.select([SPLIT]))
    met = joined_labels(all_keys(source), listed, "key", source.url)
    if len(met.rows):
        left = storage.PassedOver(f"rows of {listed.name} without an image", len(met.rows), met.rows[0].as_py())
        source = replace(source, passed_over=(*source.passed_over, left))
    return by_labels(source, listed, SPLIT, "key")


def by_labels(source: Store, labels: Labels, column: str, match: Match) -> list[Part]:
    """Return a part for each value that a column of the labels has, of images that are there."""
    values = _checked(labels.columns[column], column, labels.url)
    keys = all_keys(source)
    rows = positions(keys, labels, match)
    has_row = rows >= 0
    found = values.take(pa.array(rows, mask=~has_row)).combine_chunks()
    counted = _counted(found, column, labels.url)
    digest = _digest(labels.keys, values)
    if not counted:
        raise UserError(f"{labels.url}: no image of {source.url} has a value in its column {column}")
    none = found.is_null()
    left = _without_value(keys, none, f"images without a value in column {column} of {labels.name}, in no split")
    source = replace(source, passed_over=(*source.passed_over, *left))
    parts = []
    for value in counted:
        record = {"by": column, "value": value, "list": digest}
        if known_keys(source) is None:
            parts.append(Part(value, source, _InList(column, value, labels, match), record))
        else:
            of_value = pc.fill_null(pc.equal(found, value), False).to_numpy(zero_copy_only=False)
            parts.append(Part(value, only_shards(source, np.flatnonzero(of_value)), None, record))
    return parts


@dataclass(frozen=True)
class _InList:
    """Rows by a column of a list that no output holds yet; see `resolved`."""

    column: str
    value: str
    labels: Labels
    match: Match

    def of_unit(self, unit: Unit, schema: pa.Schema, changes_are_borne: bool) -> Wants:
        raise TypeError("a worker has no list; resolve it to one that the output holds")


def list_of(wants: Wanted | None) -> Labels | None:
    """Return the list that an output has to hold, so that its workers can find their rows; None where there is none."""
    return wants.labels if isinstance(wants, _InList) else None


def resolved(wants: Wanted | None, url: str) -> Wanted | None:
    """Return the rule for workers, where the output holds the list at `url`."""
    if not isinstance(wants, _InList):
        return wants
    return ByColumn(wants.column, wants.value, Lookup(url, wants.labels.columns.schema, wants.match))


def by_column(source: Store, column: str) -> list[Part]:
    """Return a part for each value that a column of the source has; the whole column is read for it."""
    if column not in source.schema.names:
        raise UserError(
            f"{source.url}: no column {column} to split by; it has {', '.join(source.schema.names)}: name one of them, "
            "or give --labels with one of this name"
        )
    _checked(pa.chunked_array([], source.schema.field(column).type), column, source.url)
    pieces = (piece for whole in joined(source.ranges) for piece in cut_range(whole, _ROWS, max(whole.size, 1)))
    counted, nulls, example = Counter[str](), 0, ""
    for rows in storage.ahead(lambda piece: read_rows([piece], [column]), pieces, _THREADS):
        values = as_text(rows[column])
        for each in pc.value_counts(values).to_pylist():
            if each["values"] is not None:
                counted[each["values"]] += each["counts"]
        if values.null_count:
            nulls += values.null_count
            example = example or rows[KEY].filter(values.is_null())[0].as_py()
        _require_few(counted, column, source.url)
    for value in counted:
        _require_name(value, column, source.url)
    if not counted:
        raise UserError(f"{source.url}: column {column} has no value; there is nothing to split by")
    if nulls:
        left = storage.PassedOver(f"images without a value in column {column}, in no split", nulls, example)
        source = replace(source, passed_over=(*source.passed_over, left))
    return [Part(value, source, ByColumn(column, value), {"by": column, "value": value}) for value in sorted(counted)]


def _checked(values: pa.ChunkedArray, column: str, url: str) -> pa.ChunkedArray:
    """Return a column as text. Raises UserError where its type has no few values."""
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean, pa.types.is_null)
    if not any(is_one(kind) for is_one in tests):
        raise UserError(
            f"{url}: column {column} is {values.type}, and a store is split by text, whole numbers, or true and false"
        )
    return as_text(values)


def _counted(values: pa.Array, column: str, url: str) -> dict[str, int]:
    counts = {each["values"]: each["counts"] for each in pc.value_counts(pc.drop_null(values)).to_pylist()}
    _require_few(counts, column, url)
    for value in counts:
        _require_name(value, column, url)
    return dict(sorted(counts.items()))


def _require_few(counts: Mapping[str, int], column: str, url: str) -> None:
    if len(counts) > MOST_VALUES:
        some = ", ".join(list(counts)[:3])
        raise UserError(
            f"{url}: column {column} has more than {MOST_VALUES} values, such as {some}, and each would be a store; "
            "split by a column with fewer, or by --split_file"
        )


def _require_name(value: str, column: str, url: str) -> None:
    if not _NAME.fullmatch(value):
        raise UserError(
            f"{url}: column {column} has the value {value!r}, which would name a folder; write values with letters, "
            "digits, . - and _ only, or split by --split_file"
        )


def _without_value(keys: pa.Array, none: pa.Array, reason: str) -> Sequence[storage.PassedOver]:
    left = keys.filter(none)
    return [storage.PassedOver(reason, len(left), left[0].as_py())] if len(left) else []


def _digest(keys: pa.LargeStringArray, values: pa.ChunkedArray) -> str:
    """Return a hash of which key has which value, whatever the order of the rows; 16 hexadecimal digits."""
    order, text = pc.sort_indices(keys), pa.large_string()
    lines = pc.binary_join_element_wise(keys, pc.fill_null(values, "").combine_chunks(), pa.scalar("\t", text))
    found = hashlib.sha256()
    for start in range(0, len(order), _ROWS):
        found.update("\n".join(lines.take(order[start : start + _ROWS]).to_pylist()).encode() + b"\n")
    return found.hexdigest()[:16]
