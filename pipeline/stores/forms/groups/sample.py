"""Look at the first rows of a shard where its columns do not say what they hold: pictures, or only their places."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.errors import UserError
from pipeline.storage.retry import retrying
from pipeline.stores.tables import kinds, pictures
from pipeline.stores.tables.schema import as_read, image_columns

log = logging.getLogger("transdomain")

_ROWS = 16
_BUFFER_BYTES = 1_000_000
"""Bytes to fetch at a time: the rows are in the first page of each column."""
_WAY_OUT = (
    "a path is never opened; put the bytes into the column first (datasets: cast it to Image, then save_to_disk or "
    "push_to_hub embeds them), or give the folder of the files as --input"
)


def unusual_pictures(
    shard: storage.Entry, footer: pq.FileMetaData, schema: pa.Schema, named: Sequence[str]
) -> frozenset[str]:
    """Return the columns of pictures that are no `struct<bytes, path>`: those of the `named` ones, else those found.

    A shard without one that is gets its first rows read, and a column counts where one of them begins as an image does.
    Raises UserError where a named column holds no pictures, or where there are only their paths or URLs.
    """
    usual = image_columns(pa.schema(list(map(as_read, schema)), schema.metadata))
    if named:
        unusual = [name for name in named if name in schema.names and name not in usual]
        for name in unusual:
            if pictures.form_of(schema.field(name)) is None:
                raise _no_pictures(shard, footer, schema.field(name))
        return frozenset(unusual)
    if usual or not footer.num_rows:
        return frozenset()
    forms = {field.name: pictures.form_of(field) for field in schema if field.name != "key"}
    found = [name for name, form in forms.items() if form == "pixels"]
    texts = [field.name for field in schema if field.name != "key" and kinds.is_text(_plain(field.type))]
    encoded = [name for name, form in forms.items() if form in ("bytes", "struct")]
    rows = _first_rows(shard, footer, [*encoded, *texts]) if encoded or (texts and not found) else {}
    found += [name for name in encoded if pictures.hold_images(rows[name])]
    for name in found:
        how = "tensors of pixels" if forms[name] == "pixels" else "encoded images"
        log.info("%s: by its %s, the column %s holds %s", shard.url, "type" if how[0] == "t" else "rows", name, how)
    if not found:
        for name in texts:
            if place := pictures.place_among(rows[name]):
                raise UserError(f"{shard.url}: its column {name} holds places of images, such as {place}; {_WAY_OUT}")
        for field in schema:
            if pictures.has_only_paths(field.type):
                raise _paths_alone(shard, field.name)
            if why := pictures.misfit(field):
                log.warning("%s: its column %s %s", shard.url, field.name, why)
    return frozenset(found)


def require_bytes(
    footers: Iterable[tuple[storage.Entry, pq.FileMetaData]],
    first: storage.Entry,
    footer: pq.FileMetaData,
    schema: pa.Schema,
) -> None:
    """Raise UserError where all cells of all image columns have only a path, as far as footers tell.

    The footers of the other shards are read only where the first one has none but such cells.
    """
    columns = image_columns(schema)
    if not columns or not all(_has_paths_alone(footer, column) for column in columns):
        return
    if all(_has_paths_alone(each, column) for _, each in footers if each.num_rows for column in columns):
        raise _paths_alone(first, columns[0])


def _paths_alone(shard: storage.Entry, column: str) -> UserError:
    return UserError(f"{shard.url}: its column {column} holds paths of images and no bytes; {_WAY_OUT}")


def _has_paths_alone(footer: pq.FileMetaData, column: str) -> bool:
    return _are_null(footer, f"{column}.bytes") and not _are_null(footer, f"{column}.path")


def _are_null(footer: pq.FileMetaData, path: str) -> bool:
    """Return True where each value of a leaf is null by the statistics; False where there are none."""
    at = next((i for i in range(len(footer.schema)) if footer.schema.column(i).path == path), None)
    if at is None or not footer.num_rows:
        return False
    columns = (footer.row_group(i).column(at) for i in range(footer.num_row_groups))
    return all(
        column.statistics is not None
        and column.statistics.has_null_count
        and column.statistics.null_count == column.num_values
        for column in columns
    )


def _no_pictures(shard: storage.Entry, footer: pq.FileMetaData, field: pa.Field) -> UserError:
    what = f"{shard.url}: its column {field.name}"
    if why := pictures.misfit(field):
        return UserError(f"{what} {why}")
    rows = _first_rows(shard, footer, [field.name])[field.name] if kinds.is_text(_plain(field.type)) else []
    if place := pictures.place_among(rows):
        return UserError(f"{what} holds places of images, such as {place}; {_WAY_OUT}")
    return UserError(f"{what} is {field.type}, and pictures are bytes, struct<bytes, path> or tensors; name another")


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _first_rows(shard: storage.Entry, footer: pq.FileMetaData, columns: Sequence[str]) -> dict[str, list[Any]]:
    """Return the first values of some columns."""

    def fetch() -> dict[str, list[Any]]:
        with storage.open_read(shard.url, shard) as file:
            parquet = pq.ParquetFile(file, metadata=footer, buffer_size=_BUFFER_BYTES)
            batch = next(parquet.iter_batches(_ROWS, columns=list(columns)))
            return {name: batch.column(name).to_pylist() for name in columns}

    return retrying(fetch, shard.url)
