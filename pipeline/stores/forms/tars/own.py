"""Columns of the tars that this project writes: their types are in the tar, so that values come back as they were."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from pipeline.stores.forms.tars.headers import TarError
from pipeline.stores.forms.tars.values import from_json
from pipeline.stores.forms.tars.writing import JSON, SCHEMA
from pipeline.stores.tables.schema import image_columns


def schema_of(notes: Mapping[str, str]) -> pa.Schema | None:
    """Return the columns that a tar's notes name; None for a tar of somebody else. Raises TarError where damaged."""
    if SCHEMA not in notes:
        return None
    try:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(notes[SCHEMA], validate=True)))
    except (ValueError, OSError, pa.ArrowException) as error:
        raise TarError(f"is damaged: the types of its columns cannot be read ({error}); get it anew") from None


def is_needed(ending: str, schema: pa.Schema, columns: Sequence[str]) -> bool:
    """Return True where a file with this ending holds something of these columns."""
    if ending == JSON:
        return any(name != "key" for name in columns)
    return _column(ending) in columns


def _column(ending: str) -> str:
    name, dot, _ = ending.rpartition(".")
    return unquote(name) if dot else "image"


def table_of(
    schema: pa.Schema, columns: Sequence[str], keys: Sequence[str], samples: Sequence[Mapping[str, bytes]]
) -> pa.Table:
    """Return rows with these columns of `schema`, from the files of samples by ending.

    Raises TarError where a sample is not one that was written.
    """
    wanted = [name for name in schema.names if name in columns]
    said = [_fields(key, files) for key, files in zip(keys, samples, strict=True)] if wanted != ["key"] else []
    pictures = image_columns(schema)
    arrays = []
    for name in wanted:
        kind = schema.field(name).type
        try:
            if name == "key":
                arrays.append(pa.array(keys, kind))
            elif name in pictures:
                data = [
                    {_column(ending): each for ending, each in files.items() if ending != JSON} for files in samples
                ]
                arrays.append(_pictures([fields[name] for fields in said], [each.get(name) for each in data], kind))
            else:
                arrays.append(from_json([fields[name] for fields in said], kind))
        except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise TarError(f"is damaged: column {name} cannot be read from its .json files ({error!r})") from None
    return pa.Table.from_arrays(arrays, schema=pa.schema([schema.field(name) for name in wanted], schema.metadata))


def _fields(key: str, files: Mapping[str, bytes]) -> Mapping[str, Any]:
    try:
        found = json.loads(files[JSON])
    except (ValueError, KeyError) as error:
        raise TarError(f"is damaged: the .json of {key} cannot be read ({error!r})") from None
    if not isinstance(found, dict) or found.get("key") != key:
        raise TarError(f"is damaged: the .json of {key} is not that of this sample")
    return found


def _pictures(fields: Sequence[Mapping[str, Any] | None], data: Sequence[bytes | None], kind: pa.DataType) -> pa.Array:
    """Return an image column from its encoded images, and what is beside them."""
    children = []
    for field in kind:
        if field.name == "bytes":
            children.append(pa.array(data, field.type))
        else:
            children.append(from_json([each and each[field.name] for each in fields], field.type))
    mask = pa.array(np.fromiter((each is None for each in fields), bool, len(fields)))
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=mask)
