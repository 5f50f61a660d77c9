"""Rows as one tar of WebDataset: a sample for each, its images as files and all other columns in one `.json`.

The tar begins with a global PAX header, which readers pass over: it holds the notes, the exact types of the columns,
and a checksum of all that follows. Nothing in it depends on when or by whom it was written.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from pipeline import images
from pipeline.stores.forms.tars.names import sample_name
from pipeline.stores.forms.tars.values import to_json
from pipeline.stores.tables.schema import image_columns

SCHEMA, SHA256 = "transdomain.schema", "transdomain.sha256"
"""Notes of every tar that is written: the columns' types as Arrow's IPC in base64, and the checksum."""
NO_ROWS = "no-samples/"
"""Folder in a tar without rows: readers do not take one without any member for a tar."""
JSON = "json"
UNKNOWN = "img"
"""Ending of a file whose content is no image that can be read."""


def encode_tar(rows: pa.Table, notes: Mapping[str, str]) -> bytes:
    """Encode `rows` as one tar, with `notes` in its global header; the same rows give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="strict") as tar:
        for name, content in _files(rows):
            tar.addfile(_member(name, len(content)), io.BytesIO(content))
        if not len(rows):
            folder = _member(NO_ROWS, 0)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
    said = {**notes, SCHEMA: base64.b64encode(rows.schema.serialize()).decode()}
    body = buffer.getbuffer()
    said[SHA256] = checksum(said, body)
    return tarfile.TarInfo.create_pax_global_header(said) + bytes(body)


def checksum(notes: Mapping[str, str], body: bytes | memoryview) -> str:
    """Return the checksum of a tar's notes, without its own, and of what comes after their header."""
    said = json.dumps(sorted((name, note) for name, note in notes.items() if name != SHA256))
    found = hashlib.sha256(said.encode())
    found.update(body)
    return found.hexdigest()


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, 0, 0o644
    return member


def _files(rows: pa.Table) -> Iterator[tuple[str, Any]]:
    """Yield name and content of the files of all rows, those of a row together, its `.json` last."""
    pictures = image_columns(rows.schema)
    others = {
        name: to_json(_without_bytes(rows[name]) if name in pictures else rows[name]) for name in rows.schema.names
    }
    data = {name: [cell for chunk in rows[name].chunks for cell in _bytes(chunk)] for name in pictures}
    for i, key in enumerate(rows["key"].to_pylist()):
        name = sample_name(key)
        for column in pictures:
            if (content := data[column][i]).is_valid:
                content = memoryview(content.as_buffer())
                yield f"{name}.{ending_of(column, content)}", content
        fields = {column: values[i] for column, values in others.items()}
        yield f"{name}.{JSON}", json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _bytes(cells: pa.StructArray) -> pa.Array:
    """Return the encoded images in an image column; null where a cell is."""
    return cells.flatten()[cells.type.get_field_index("bytes")]


def _without_bytes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return an image column's other fields; null where a cell is."""
    kept = [i for i, field in enumerate(column.type) if field.name != "bytes"]
    kind = pa.struct([column.type.field(i) for i in kept])
    if not kept:
        return pa.chunked_array([[{} if cell.is_valid else None for cell in column]], kind)
    chunks = []
    for chunk in column.chunks:
        fields = chunk.flatten()
        chunks.append(pa.StructArray.from_arrays([fields[i] for i in kept], fields=list(kind), mask=chunk.is_null()))
    return pa.chunked_array(chunks, kind)


def ending_of(column: str, content: bytes | memoryview) -> str:
    """Return the ending of a file with an image: that of its format, after the column's name unless that is `image`."""
    ending = images.ending_of(content) or UNKNOWN
    return ending if column == "image" else f"{quote(column, safe='')}.{ending}"
