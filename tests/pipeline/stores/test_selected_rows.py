"""Selected rows of a store: the same as filtering all of them, without ever holding all of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.stores import open_store, read_rows
from pipeline.stores.forms import parquet
from pipeline.stores.selection import Selection
from pipeline.stores.tables.ranges import Range
from pipeline.stores.tables.schema import image_array


def test_what_is_not_wanted_is_never_held_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"{i:03d}" for i in range(200)]
    rows = pa.table({"key": keys, "image": image_array([bytes([i]) * 1000 for i in range(200)], keys)})
    pq.write_table(rows, tmp_path / "shard.parquet", row_group_size=5, compression="NONE")
    store = open_store(str(tmp_path))
    whole = Range(*store.ranges[0][:3], 0, 200, sum(piece.size for piece in store.ranges))
    selection = Selection(0, 0.0, 0.1)
    expected = [row for row in read_rows([whole]).to_pylist() if selection.wants(row["key"])]
    assert 0 < len(expected) < 60

    read: list[int] = []
    original = parquet.read_range

    def noted(wanted: Range, columns: list[str] | None) -> pa.Table:
        read.append(wanted.size)
        return original(wanted, columns)

    monkeypatch.setattr(parquet, "read_range", noted)
    monkeypatch.setattr(parquet, "_PIECE_BYTES", 20_000)
    assert read_rows([whole], wants=selection.wants).to_pylist() == expected
    assert len(read) > 5
    assert max(read) < 22_000  # by one row more, where rows do not divide evenly
