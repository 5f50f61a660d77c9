"""Units between two stages as blocks of Ray Data: one row, whatever is in it, with large binary values.

Ray Data skips blocks without rows, and a unit may well have none left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pipeline.engine.publishing.steps import InFlight, Receipt, Task
from pipeline.engine.records.account import Batch, Filtered, Quarantined
from pipeline.engine.records.units import Unit
from pipeline.stores.tables.ranges import Range

_BLOCK = pa.schema(
    [
        ("work", pa.int64()),
        ("unit", pa.string()),
        ("payload", pa.large_binary()),
        ("pixels", pa.large_binary()),
        ("receipt", pa.string()),
    ]
)


_HEAD = b"transdomain.batch"
"""Metadata key of a batch's fields that are not columns; the rows' own metadata about their columns is kept with it."""


def to_block(item: InFlight | Receipt) -> pa.Table:
    """Encode as one row: a receipt as JSON, or a batch as an Arrow stream whose schema carries the other fields.

    Decoded images stand beside it, and are not copied.
    """
    payload = pixels = pa.nulls(1, pa.large_binary())
    receipt = None
    if isinstance(item, Receipt):
        receipt = json.dumps(item._asdict() | {"task": list(item.task)})
    else:
        payload = _large_binary(_serialise(item))
        if item.batch.pixels is not None:
            pixels = _large_binary(item.batch.pixels)
    task = [pa.array([item.task.work]), pa.array([item.task.unit])]
    return pa.Table.from_arrays([*task, payload, pixels, pa.array([receipt], pa.string())], schema=_BLOCK)


def from_block(table: pa.Table) -> Task | InFlight | Receipt:
    """Invert `to_block`; a block without payload and receipt is a task. Arrays share the block's memory."""
    task = Task(table["work"][0].as_py(), table["unit"][0].as_py())
    if "receipt" not in table.column_names:
        return task
    receipt = table["receipt"][0].as_py()
    if receipt is not None:
        return decode_receipt(receipt)
    with pa.ipc.open_stream(table["payload"].chunk(0)[0].as_buffer()) as stream:
        rows = stream.read_all()
    head = json.loads(rows.schema.metadata[_HEAD])
    unit = Unit(head["unit"], tuple(Range(*r) for r in head["ranges"]), head["part"])
    quarantined = tuple(Quarantined(*r) for r in head["rejected"])
    metadata = {name: value for name, value in rows.schema.metadata.items() if name != _HEAD}
    rows = rows.replace_schema_metadata(metadata or None)
    pixels = table["pixels"][0]
    filtered = tuple(Filtered(key, shard, tuple(map(tuple, scores))) for key, shard, scores in head["filtered"])
    held = pixels.as_buffer() if pixels.is_valid else None
    batch = Batch(unit, rows, quarantined, head["skipped"], held, filtered)
    return InFlight(task, batch, head["started"])


def _serialise(item: InFlight) -> pa.Buffer:
    batch = item.batch
    head: Mapping[str, Any] = {
        "unit": batch.unit.id,
        "part": batch.unit.part,
        "ranges": [list(r) for r in batch.unit.ranges],
        "rejected": [list(r) for r in batch.quarantined],
        "skipped": batch.skipped,
        "filtered": [list(row) for row in batch.filtered],
        "started": item.started,
    }
    metadata = {**(batch.rows.schema.metadata or {}), _HEAD: json.dumps(head).encode()}
    rows = batch.rows.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return sink.getvalue()


def _large_binary(buffer: pa.Buffer) -> pa.LargeBinaryArray:
    """Return `buffer` as an array of one value, without a copy."""
    offsets = pa.array([0, buffer.size], pa.int64()).buffers()[1]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, buffer])


def decode_receipt(text: str) -> Receipt:
    """Return the receipt in the column `receipt` of a block."""
    fields = json.loads(text)
    return Receipt(**(fields | {"task": Task(*fields["task"])}))
