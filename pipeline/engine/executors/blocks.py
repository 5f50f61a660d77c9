"""Units between two stages as blocks of Ray Data: one row, whatever is in it, with lists of large binary values.

Ray Data skips blocks without rows, and a unit may well have none left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.engine.publishing.steps import InFlight, Receipt, Task
from pipeline.engine.records.account import Batch, Filtered, Quarantined
from pipeline.engine.records.units import Unit
from pipeline.stores.tables.ranges import Range
from pipeline.stores.tables.row_schema import RowSchema
from pipeline.usage import Usage

_PER_BATCH = pa.large_list(pa.large_binary())

_BLOCK = pa.schema(
    [
        ("work", pa.int64()),
        ("unit", pa.string()),
        ("payload", _PER_BATCH),
        ("pixels", _PER_BATCH),
        ("receipt", pa.string()),
        ("usage", pa.string()),
    ]
)


_HEAD = b"transdomain.batch"
"""Metadata key of a batch's fields that are not columns; the rows' own metadata about their columns is kept with it."""


def to_block(item: InFlight | Receipt) -> pa.Table:
    """Encode as one row: a receipt as JSON, or each batch as an Arrow stream whose schema carries the other fields.

    Decoded images stand beside it; those of a single batch are not copied.
    """
    payload = pixels = pa.nulls(1, _PER_BATCH)
    receipt, used = None, json.dumps(list(item.usage))
    if isinstance(item, Receipt):
        receipt = json.dumps(item._asdict() | {"task": list(item.task)})
    else:
        payload = _large_binaries([_serialise(batch, item.started) for batch in item.batches])
        pixels = _large_binaries([batch.pixels for batch in item.batches])
    task = [pa.array([item.task.work]), pa.array([item.task.unit])]
    return pa.Table.from_arrays(
        [*task, payload, pixels, *(pa.array([text], pa.string()) for text in (receipt, used))], schema=_BLOCK
    )


def from_block(table: pa.Table) -> Task | InFlight | Receipt:
    """Invert `to_block`; a block without payload and receipt is a task. Arrays share the block's memory."""
    task = Task(table["work"][0].as_py(), table["unit"][0].as_py())
    if "receipt" not in table.column_names:
        return task
    receipt = table["receipt"][0].as_py()
    if receipt is not None:
        return decode_receipt(receipt)
    payloads, pixels = (table[name].chunk(0)[0].values for name in ("payload", "pixels"))
    found = [_batch(*each) for each in zip(payloads, pixels, strict=True)]
    used = Usage(*json.loads(table["usage"][0].as_py()))
    return InFlight(task, tuple(batch for batch, _ in found), found[0][1], used)


def _batch(payload: pa.Scalar, pixels: pa.Scalar) -> tuple[Batch, float]:
    """Return a batch, and the time when work on it began."""
    with pa.ipc.open_stream(payload.as_buffer()) as stream:
        rows = stream.read_all()
    head = json.loads(rows.schema.metadata[_HEAD])
    row_schema = RowSchema.of_record(head.get("row_schema"))
    unit = Unit(head["unit"], tuple(Range(*r)._replace(row_schema=row_schema) for r in head["ranges"]), head["part"])
    beside = tuple(Unit(name, unit.ranges, part) for name, part in head["beside"])
    quarantined = tuple(Quarantined(*r) for r in head["rejected"])
    metadata = {name: value for name, value in rows.schema.metadata.items() if name != _HEAD}
    rows = rows.replace_schema_metadata(metadata or None)
    filtered = tuple(Filtered(key, shard, tuple(map(tuple, scores))) for key, shard, scores in head["filtered"])
    held = pixels.as_buffer() if pixels.is_valid else None
    return Batch(unit, rows, quarantined, head["skipped"], held, filtered, beside), head["started"]


def _serialise(batch: Batch, started: float) -> pa.Buffer:
    row_schema = batch.unit.ranges[0].row_schema if batch.unit.ranges else None
    head: Mapping[str, Any] = {
        "unit": batch.unit.id,
        "part": batch.unit.part,
        "ranges": [list(r[:-1]) for r in batch.unit.ranges],  # a unit is of one source, whose rows come in one schema
        "row_schema": row_schema.record() if row_schema else None,
        "rejected": [list(r) for r in batch.quarantined],
        "skipped": batch.skipped,
        "filtered": [list(row) for row in batch.filtered],
        "beside": [[unit.id, unit.part] for unit in batch.beside],
        "started": started,
    }
    metadata = {**(batch.rows.schema.metadata or {}), _HEAD: json.dumps(head).encode()}
    rows = batch.rows.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return sink.getvalue()


def _large_binaries(buffers: Sequence[pa.Buffer | None]) -> pa.LargeListArray:
    """Return `buffers` as an array of one list; a single one is not copied."""
    values = [_large_binary(buffer) for buffer in buffers]
    whole = values[0] if len(values) == 1 else pa.concat_arrays(values)
    return pa.LargeListArray.from_arrays(pa.array([0, len(whole)], pa.int64()), whole)


def _large_binary(buffer: pa.Buffer | None) -> pa.LargeBinaryArray:
    """Return `buffer` as an array of one value, without a copy; null where there is none."""
    if buffer is None:
        return pa.nulls(1, pa.large_binary())
    offsets = pa.array([0, buffer.size], pa.int64()).buffers()[1]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, buffer])


def decode_receipt(text: str) -> Receipt:
    """Return the receipt in the column `receipt` of a block."""
    fields = json.loads(text)
    return Receipt(**(fields | {"task": Task(*fields["task"]), "usage": Usage(*fields["usage"])}))
