"""How the rows of a store come, whatever their shard has: in one schema, under one rule for their keys."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.stores.tables.options import KeyRule


@dataclass(frozen=True)
class Reading:
    """Schema and rule of keys of the rows of a store whose shards differ, or hold pictures in an unusual form.

    Ranges carry it, and a plan records it, so that a unit comes out the same whoever reads it, and when.
    """

    schema: pa.Schema
    """Columns of the rows, with their features, in order; those that a shard lacks are null there."""
    keys: KeyRule = "own"

    def record(self) -> Mapping[str, Any]:
        """Return it as plain data, for JSON."""
        return {"schema": base64.b64encode(self.schema.serialize()).decode(), "keys": self.keys}

    @classmethod
    def of_record(cls, record: Mapping[str, Any] | None) -> Reading | None:
        """Invert `record`; None stands for rows that come as their shard has them."""
        if record is None:
            return None
        return cls(pa.ipc.read_schema(pa.py_buffer(base64.b64decode(record["schema"]))), record["keys"])
