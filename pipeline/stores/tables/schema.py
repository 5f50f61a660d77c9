"""Columns that all stores agree on."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.errors import StorageError, UserError
from pipeline.stores.tables import kinds
from pipeline.stores.tables.features import Features, features_of, is_other_than_image, united, with_features
from pipeline.stores.tables.ranges import Range, Ranges, first_rows

INTERNAL = "_transdomain."
"""Prefix of the columns that rows have only while a job processes them."""
SHARD = INTERNAL + "shard"
"""Name of the column with a row's source shard, relative to its store."""

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""Type of an image column by the Hugging Face `Image` convention: encoded bytes, and a name that is never opened."""


_CHUNK_BYTES = 1 << 30
"""Bytes of images in one array, whose offsets have 32 bits."""


@dataclass(frozen=True)
class Store:
    """Store that can be planned over. Its listing and one shard are read to open it; the others when asked for."""

    url: str
    form: str
    """Name of its form."""
    schema: pa.Schema
    shards: storage.Entries
    """Objects that hold its rows, in the order of the listing."""
    look: Callable[[np.ndarray], Ranges]
    """Function that returns the ranges of the shards with these numbers: all their rows, in the smallest pieces that
    can be read alone. Raises UserError where one of them does not fit the others."""
    root: str = ""
    """Prefix or pattern below whose matches all shards are; by default the URL."""
    passed_over: Sequence[storage.PassedOver] = ()
    """Entries below the URL that are not inputs, by reason."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Links to folders in the store, by name, with the real paths of these folders."""
    first_bytes: int = 0
    """Number of files whose first bytes were read to list it."""
    source: str = ""
    """Name by which a job that reads several stores tells them apart."""
    looked_over: Callable[[], Sequence[storage.PassedOver]] = tuple
    """Function that returns what the shards that were looked at last hold that is no row."""

    @functools.cached_property
    def ranges(self) -> Ranges:
        """Ranges of all shards."""
        return replace(self.look(np.arange(len(self.shards))), source=self.source)

    def ranges_of(self, which: np.ndarray) -> Ranges:
        """Return the ranges of the shards with these numbers, which ascend; no other shard is read."""
        if "ranges" in self.__dict__ or len(which) == len(self.shards):
            return self.ranges.of_shards(which)
        return replace(self.look(which), source=self.source)

    @property
    def rows(self) -> int:
        """Return the number of its rows. Every shard is read for it, once."""
        return self.ranges.rows

    def first_rows(self, count: int) -> list[Range]:
        """Return the ranges of the first `count` rows, or of all where there are fewer; later shards are not read."""
        each = (piece for number in range(len(self.shards)) for piece in self.ranges_of(np.array([number])))
        return first_rows(each, count)

    def only(self, ranges: Ranges) -> Store:
        """Return the part of the store that these ranges are."""
        return replace(self, shards=ranges.shards, look=ranges.of_shards)


def empty_shards(shards: storage.Entries, which: np.ndarray, ranges: Ranges) -> tuple[storage.PassedOver, ...]:
    """Return which of the shards with these numbers have no rows, and so none of their `ranges`, as a reason."""
    empty = np.setdiff1d(which, ranges.shards_with_rows, assume_unique=True)
    return (storage.PassedOver("shards without rows", len(empty), shards[int(empty[0])].name),) if len(empty) else ()


class ShardsDifferError(UserError):
    """Shards of one store with different columns."""


class SourceChangedError(Exception):
    """Source shard that is not the one that was planned."""


def require_unchanged(planned: Range) -> storage.Entry:
    """Return the entry of a range's shard. Raises SourceChangedError where it is not the one that was planned."""
    entry = storage.stat_file(planned.url)
    if entry is None:
        raise SourceChangedError(f"{planned.url} is gone since it was planned")
    if entry.version != planned.version:
        raise SourceChangedError(
            f"{planned.url} has changed since it was planned ({planned.version}, now {entry.version})"
        )
    return entry


def read_planned(planned: Range, *, size: int | None = None) -> bytes:
    """Return the content of a range's shard, of this size where it is known. The read says whether it is another one.

    Raises SourceChangedError where it is not the one that was planned, StorageError where it cannot be read.
    """
    try:
        return storage.read(planned.url, size=size, version=planned.version)
    except PermissionError as error:  # raised by the storage, not a fault of the image
        raise StorageError(f"{planned.url}: may not be read ({error.strerror or error}); make it readable") from error
    except (FileNotFoundError, StorageError):
        require_unchanged(planned)
        raise


def image_columns(schema: pa.Schema) -> list[str]:
    """Return the names of the columns with encoded images: structs with a binary field `bytes`.

    Columns whose features say that they are something else are excluded.
    """
    features = features_of(schema)
    return [
        field.name
        for field in schema
        if pa.types.is_struct(field.type)
        and any(
            f.name == "bytes" and (pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)) for f in field.type
        )
        and not is_other_than_image(features.get(field.name))
    ]


def as_read(field: pa.Field) -> pa.Field:
    """Return a shard's column as its rows come: keys are text, and text or bytes are never views.

    Arrow cannot take rows of views.
    """
    kept = {name: value for name, value in (field.metadata or {}).items() if not name.startswith(b"PARQUET:")}
    kind = pa.string() if field.name == "key" else _without_views(field.type)
    return pa.field(field.name, kind, field.nullable, kept or None)


def features_as_read(schema: pa.Schema) -> Features:
    """Return a shard's features for those of its columns whose type stays the same when read."""
    changed = {field.name for field in schema if as_read(field).type != field.type}
    return {name: feature for name, feature in features_of(schema).items() if name not in changed}


def _without_views(kind: pa.DataType) -> pa.DataType:
    inner = [kind.field(i) for i in range(kind.num_fields)] if pa.types.is_nested(kind) else []
    plain = [field.with_type(_without_views(field.type)) for field in inner]
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if all(mine.type == its.type for mine, its in zip(plain, inner, strict=True)):
        return kind
    if pa.types.is_struct(kind):
        return pa.struct(plain)
    if pa.types.is_map(kind):
        return pa.map_(plain[0].type.field(0), plain[0].type.field(1), keys_sorted=kind.keys_sorted)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(plain[0], kind.list_size)
    is_large = pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind)
    return pa.large_list(plain[0]) if is_large else pa.list_(plain[0])


def check_columns(schema: pa.Schema, url: str, *, rows: int) -> None:
    """Raise UserError where the columns of a shard of `rows` rows cannot be read as those of a store."""
    doubled = [name for name, times in Counter(schema.names).items() if times > 1]
    if doubled:
        raise UserError(f"{url}: has several columns {', '.join(doubled)}; rename all but one of each name")
    ours = [name for name in schema.names if name.startswith(INTERNAL)]
    if ours:
        raise UserError(f"{url}: columns {', '.join(ours)}: names that begin with {INTERNAL} are kept for jobs; rename")
    if "key" not in schema.names or not rows:  # without rows, nobody chose the type
        return
    kind = schema.field("key").type
    if not kinds.can_be_key(kind):
        raise UserError(
            f"{url}: its column key is {kind}, and keys are text, whole numbers or UUIDs; write it as one of these, or "
            "rename the column (rows without a column key are named by shard and number)"
        )


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """Join rows of several shards into one table, with the features that any of them has for its columns."""
    rows = pa.concat_tables(tables)
    said = {table.schema.metadata and table.schema.metadata.get(b"huggingface"): table.schema for table in tables}
    return rows if len(said) == 1 else with_features(rows, united({}, *map(features_of, said.values())))


def image_column(data: Sequence[bytes | None], paths: Sequence[str | None]) -> pa.ChunkedArray:
    """Return encoded images and their names as a column of IMAGE_TYPE, in as many chunks as their bytes need."""
    chunks, start, held = list[pa.StructArray](), 0, 0
    for i, each in enumerate(data):
        size = len(each or b"")
        if i > start and held + size > _CHUNK_BYTES:
            chunks.append(image_array(data[start:i], paths[start:i]))
            start, held = i, 0
        held += size
    chunks.append(image_array(data[start:], paths[start:]))
    return pa.chunked_array(chunks, IMAGE_TYPE)


def image_array(data: Iterable[bytes | None] | pa.Array, paths: Iterable[str | None]) -> pa.StructArray:
    """Return encoded images and their names as a column of IMAGE_TYPE."""
    return pa.StructArray.from_arrays(
        [
            data.cast(pa.binary()) if isinstance(data, pa.Array) else pa.array(data, pa.binary()),
            pa.array(paths, pa.string()),
        ],
        fields=list(IMAGE_TYPE),
    )
