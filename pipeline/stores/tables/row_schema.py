"""How the rows of a store come, whatever their shard has: in one schema, and under one rule for their keys."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.stores.tables.options import KeyRule


@dataclass(frozen=True)
class RowSchema:
    """Columns in which the rows of a store come where its shards do not say them, each alone and all alike.

    Ranges carry it, and a plan records it, so that a unit comes out the same whoever reads it, and when.
    """

    schema: pa.Schema
    """Columns of the rows, with their features, in order; those that a shard lacks are null there."""
    keys: KeyRule = "own"
    basis: str = ""
    """Text that the store's form has written for itself: what else it takes to make these rows of a shard."""

    def record(self) -> Mapping[str, Any]:
        """Return it as plain data, for JSON; older plans have no basis, and those without one look like them."""
        found = {"schema": base64.b64encode(self.schema.serialize()).decode(), "keys": self.keys}
        return found | ({"basis": self.basis} if self.basis else {})

    @classmethod
    def of_record(cls, record: Mapping[str, Any] | None) -> RowSchema | None:
        """Invert `record`; None stands for rows that come as their shard has them."""
        if record is None:
            return None
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(record["schema"])))
        return cls(schema, record["keys"], record.get("basis", ""))
