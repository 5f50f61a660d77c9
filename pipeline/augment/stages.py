"""Stages of images that are kept as they are, beside those that are translated."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pyarrow as pa

from pipeline.engine.records.account import Batch
from pipeline.engine.records.units import Unit
from pipeline.stores.tables.schema import IMAGE_TYPE, image_array
from pipeline.translation.stages import Decode, laid_out


@dataclass(frozen=True)
class Check:
    """Stage that keeps the rows that can be decoded, with their encoded images unchanged."""

    decode: Decode

    def __call__(self, unit: Unit) -> Batch:
        return self.decode.prove(self.decode.read(unit))


@dataclass(frozen=True)
class Keep:
    """Stage that lays rows out like translated ones."""

    column: str

    def __call__(self, batch: Batch) -> Batch:
        rows, pictures = batch.rows, list[pa.StructArray]()
        names = iter([key.rsplit("/", 1)[-1] for key in rows["key"].to_pylist()])
        for chunk in rows[self.column].chunks:
            pictures.append(image_array(chunk.field("bytes"), itertools.islice(names, len(chunk))))
        size = [rows[name] for name in ("source_width", "source_height")]
        column = pa.chunked_array(pictures, IMAGE_TYPE)
        return replace(batch, rows=laid_out(rows, self.column, column, size, None))
