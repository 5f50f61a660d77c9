"""Columns that all stores agree on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from pipeline import storage
from pipeline.engine.plan import Range
from pipeline.errors import UserError

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""The Hugging Face `Image` convention: encoded bytes, and a name that nobody opens."""


@dataclass(frozen=True)
class Store:
    """A store that can be planned over."""

    url: str
    kind: Literal["parquet", "folder"]
    schema: pa.Schema
    ranges: Sequence[Range]
    """Every row, in the order of the listing, in the smallest pieces that can be read alone."""
    root: str = ""
    """Below which, or below whose matches, all shards are; by default the URL."""
    passed_over: Sequence[storage.PassedOver] = ()
    """What is below the URL and is no input, by reason."""

    @property
    def rows(self) -> int:
        return sum(r.rows for r in self.ranges)


class ShardsDifferError(UserError):
    """The shards of a store have different columns."""


class SourceChangedError(Exception):
    """A source shard is not the one that was planned."""


def require_unchanged(planned: Range) -> storage.Entry:
    """The entry of a range's shard. Raises SourceChangedError where it is not the one that was planned."""
    entry = storage.stat_file(planned.url)
    if entry is None:
        raise SourceChangedError(f"{planned.url} is gone since it was planned")
    if entry.version != planned.version:
        raise SourceChangedError(
            f"{planned.url} has changed since it was planned ({planned.version}, now {entry.version})"
        )
    return entry


def image_columns(schema: pa.Schema) -> list[str]:
    """Names of the columns that hold encoded images: a struct with a binary field `bytes`."""
    return [
        field.name
        for field in schema
        if pa.types.is_struct(field.type)
        and any(
            f.name == "bytes" and (pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)) for f in field.type
        )
    ]


def hugging_face_metadata(image_columns: Iterable[str]) -> dict[bytes, bytes]:
    """Schema metadata by which `datasets` decodes these columns as images."""
    features = {name: {"_type": "Image"} for name in image_columns}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def image_array(data: Iterable[bytes | None] | pa.Array, paths: Iterable[str | None]) -> pa.StructArray:
    """Encoded images and their names as a column of IMAGE_TYPE."""
    return pa.StructArray.from_arrays(
        [
            data.cast(pa.binary()) if isinstance(data, pa.Array) else pa.array(data, pa.binary()),
            pa.array(paths, pa.string()),
        ],
        fields=list(IMAGE_TYPE),
    )
