"""Columns of a folder of images beside its files, in the form that `datasets` reads: one row a file, by its name.

Derived from the verdicts of all units once they are made, and replaced whole. Image columns besides the one that the
files hold stay in the verdicts.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.engine.records.layout import VERDICTS, Output
from pipeline.errors import UserError
from pipeline.stores.tables.features import features_of, with_features
from pipeline.stores.tables.schema import image_columns

METADATA = "data/metadata.parquet"
_THREADS = 8
_ROW_GROUP = 65_536
_MOST_BYTES = 2_000_000_000
"""Limit of the file, which is made in memory."""
_NOT_COLUMNS = ("sha256",)
"""Columns of a verdict that are no columns of its rows."""


def folders_of(manifest: pa.Table) -> pa.Table:
    """Return the rows of a manifest whose units' rows are files, and that have any."""
    is_folder = pc.starts_with(manifest["data"], VERDICTS)
    return manifest.filter(pc.and_(is_folder, pc.greater(manifest["ok"], 0)))


def encode_metadata(output: Output, manifest: pa.Table) -> bytes:
    """Return the metadata of all files of an output that has any.

    The same verdicts give the same bytes. Raises UserError where the columns of two units do not go together, or where
    the file would not fit in memory.
    """
    buffer, writer = io.BytesIO(), None
    for table in _tables(output, folders_of(manifest)):
        if writer is None:
            writer = pq.ParquetWriter(buffer, table.schema, compression="zstd", write_page_checksum=True)
        elif not table.schema.equals(writer.schema):
            raise UserError("units have other columns than the first one, which the verdicts have")
        writer.write_table(table, row_group_size=_ROW_GROUP)
        if buffer.tell() > _MOST_BYTES:
            raise UserError(f"it would be of more than {_MOST_BYTES} bytes; the verdicts have the columns")
    assert writer is not None
    writer.close()
    return buffer.getvalue()


def _tables(output: Output, units: pa.Table) -> Iterator[pa.Table]:
    """Yield the metadata of each unit's files, in order."""

    def read(name: str) -> pa.Table:
        verdict = pq.ParquetFile(io.BytesIO(storage.read(output.at(name))), page_checksum_verification=True)
        schema = verdict.schema_arrow
        left_out = {"file_name", *_NOT_COLUMNS, *image_columns(schema)}
        names = ["file_name", *(name for name in schema.names if name not in left_out)]
        return with_features(verdict.read(names).select(names), features_of(schema))

    names = (name for batch in units["data"].chunks for name in batch.to_pylist())
    yield from storage.ahead(read, names, _THREADS)


def check_metadata(output: Output, manifest: pa.Table) -> str:
    """Return what is wrong with the metadata of an output's files; empty where nothing is, or where there are none.

    Outputs of earlier versions have none.
    """
    data = storage.read_if_there(output.at(METADATA))
    if data is None:
        return ""
    try:
        found = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
        batches = found.iter_batches(_ROW_GROUP)
        held = found.schema_arrow.empty_table()
        for table in _tables(output, folders_of(manifest)):
            while len(held) < len(table) and (batch := next(batches, None)) is not None:
                held = pa.concat_tables([held, pa.Table.from_batches([batch])])
            if not held.slice(0, len(table)).equals(table):
                return "is not what the units say of their files"
            held = held.slice(len(table))
        return "has rows that no unit has" if len(held) or next(batches, None) is not None else ""
    except (pa.ArrowException, OSError):
        return "is harmed"
