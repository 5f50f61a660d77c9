"""One Parquet file as bytes: encoded with notes in its footer, and read back whole."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.storage.retry import retrying
from pipeline.stores.forms.form import WritableForm
from pipeline.stores.tables.features import features_of_shard, with_features
from pipeline.stores.tables.schema import image_columns

ROW_GROUP_BYTES = 4_000_000


class ShardForm(WritableForm):
    """A form in which a Parquet file stands for a unit."""

    ending = ".parquet"

    def check(self, data: bytes) -> tuple[Mapping[str, str], int]:
        shard = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
        rows = sum(len(batch) for batch in shard.iter_batches(batch_size=256))
        notes = shard.metadata.metadata or {}
        return {name.decode(): note.decode() for name, note in notes.items()}, rows

    def columns(self, data: bytes, names: Sequence[str]) -> pa.Table:
        shard = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
        return shard.read(columns=[name for name in names if name in shard.schema_arrow.names])

    def schema(self, url: str) -> pa.Schema:
        def fetch() -> pa.Schema:
            with storage.open_read(url) as file:
                return pq.read_schema(file)

        return retrying(fetch, url)

    def read_columns(self, url: str, names: Sequence[str], *, first: int | None = None) -> pa.Table:
        return read_columns(url, names, first=first)


def encode_shard(rows: pa.Table, notes: Mapping[str, str]) -> bytes:
    """Encode `rows` as one Parquet file, with `notes` in its footer; the same rows give the same bytes.

    Without rows, the file has no row group at all: some readers do not accept an empty row group.
    """
    pictures = image_columns(rows.schema)
    schema = with_features(rows.schema, features_of_shard(rows.schema, pictures))
    binary = [f"{name}.bytes" for name in pictures]
    leaves = _leaves(schema)
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer,
        schema,
        compression={leaf: "NONE" if leaf in binary else "ZSTD" for leaf in leaves},
        use_dictionary=[leaf for leaf in leaves if leaf not in binary],
        write_statistics=[leaf for leaf in leaves if leaf not in binary],
        write_page_checksum=True,
        write_page_index=True,
    ) as writer:
        if len(rows):
            per_group = max(1, ROW_GROUP_BYTES * len(rows) // max(rows.nbytes, 1))
            rows = rows.replace_schema_metadata(schema.metadata)
            for first in range(0, len(rows), per_group):
                # In one chunk, since pages end where chunks end, and the bytes must depend on the rows alone.
                writer.write_table(rows.slice(first, per_group).combine_chunks(), row_group_size=per_group)
        writer.add_key_value_metadata(dict(notes))
    return buffer.getvalue()


def _leaves(schema: pa.Schema) -> list[str]:
    """Return the dotted paths of the leaf columns as Parquet names them."""
    buffer = io.BytesIO()
    pq.ParquetWriter(buffer, schema).close()
    parquet_schema = pq.read_schema(buffer) and pq.ParquetFile(buffer).schema
    return [parquet_schema.column(i).path for i in range(len(parquet_schema))]


def read_columns(url: str, names: Sequence[str], *, first: int | None = None) -> pa.Table:
    """Return those of the named columns that the shard at `url` has, for all rows or for the `first` ones."""

    def fetch() -> pa.Table:
        with storage.open_read(url) as file:
            parquet = pq.ParquetFile(file, pre_buffer=True, page_checksum_verification=True)
            found = [name for name in names if name in parquet.schema_arrow.names]
            if first is None:
                return parquet.read(columns=found)
            groups, rows = list[int](), 0
            while rows < first and len(groups) < parquet.metadata.num_row_groups:
                rows += parquet.metadata.row_group(len(groups)).num_rows
                groups.append(len(groups))
            return parquet.read_row_groups(groups, columns=found).slice(0, first)

    return retrying(fetch, url)
