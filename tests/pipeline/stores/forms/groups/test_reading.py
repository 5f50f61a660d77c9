"""Ranges of rows of large row groups: the same rows as a whole read gives, from the bytes of these rows."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import storage
from pipeline.stores.forms.groups import excerpt, reading
from pipeline.stores.forms.groups.reading import Shard

ROWS = 300


def pictures(rows: int = ROWS, *, nulls: bool = True, seed: int = 0) -> list[bytes | None]:
    """Return values of 0 to 3,000 bytes that do not compress well, some of them several times."""
    random = np.random.default_rng(seed)
    several = [random.bytes(700) for _ in range(3)]
    return [
        None if nulls and i % 11 == 3 else several[i % 3] if i % 5 == 0 else random.bytes(int(random.integers(0, 3000)))
        for i in range(rows)
    ]


def table(*, nulls: bool = True, data: pa.DataType | None = None, rows: int = ROWS) -> pa.Table:
    """Return rows with images as structs, some null in themselves, and columns of many other types."""
    kind = data or pa.binary()
    fields = [pa.field("bytes", kind, nulls), pa.field("path", pa.string())]
    images = pa.StructArray.from_arrays(
        [pa.array(pictures(rows, nulls=nulls), kind), pa.array([f"{i}.png" for i in range(rows)])],
        fields=fields,
        mask=pa.array([nulls and i % 7 == 2 for i in range(rows)]),
    )
    flat = pa.array(pictures(rows, nulls=nulls, seed=1), kind)
    columns = {
        "key": pa.array([f"k{i:06d}" for i in range(rows)]),
        "image": images,
        "flat": flat,
        "boxes": pa.array([[[float(i), 1.0]] * (i % 3) for i in range(rows)], pa.list_(pa.list_(pa.float32()))),
        "names": pa.array([None if i % 4 == 0 else ["a" * (i % 9)] * (i % 5) for i in range(rows)]),
        "class": pa.array([["cat", "dog", None][i % 3] for i in range(rows)]).dictionary_encode(),
        "at": pa.array([datetime.datetime(2024, 1, 1 + i % 28) for i in range(rows)], pa.timestamp("us", "UTC")),
        "label": pa.array(range(rows), pa.int64()),
        "fixed": pa.array([[i, i + 1] for i in range(rows)], pa.list_(pa.int32(), 2)),
    }
    schema = pa.schema(
        [pa.field(name, column.type, nulls or name not in ("image", "flat")) for name, column in columns.items()],
        metadata={"note": "kept"},
    )
    return pa.table(columns, schema=schema)


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat row groups and leaves of some kB as those of many MB are treated."""
    monkeypatch.setattr(reading, "_SLACK_BYTES", 2_000)
    monkeypatch.setattr(excerpt, "_LARGE_BYTES", 5_000)
    reading._pages._held.clear()
    reading._layouts._held.clear()


def read(path: Path, start: int, stop: int, columns: list[str] | None = None) -> pa.Table:
    with storage.open_read(str(path)) as file:
        found = reading.read(Shard(file, str(path), "1", pq.read_metadata(path)), start, stop, columns)
    found.validate(full=True)
    return found


def check(path: Path, *, seed: int = 0, columns: list[str] | None = None, ranges: int = 25) -> None:
    whole, random = pq.read_table(path, columns=columns), np.random.default_rng(seed)
    edges = [sorted(random.integers(0, len(whole) + 1, 2).tolist()) for _ in range(ranges)]
    narrow = [(at, min(len(whole), at + 9)) for at in random.integers(0, len(whole), ranges).tolist()]
    for start, stop in [*edges, *narrow, (0, len(whole)), (0, 1), (len(whole) - 1, len(whole))]:
        found = read(path, start, stop, columns)
        assert found.schema.equals(whole.schema, check_metadata=True)
        assert found.equals(whole.slice(start, stop - start)), (start, stop)


@pytest.fixture
def excerpts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list to which the size of each excerpt that is read is added."""
    sizes: list[int] = []
    original = reading.read_excerpt

    def noted(*given: Any) -> pa.Buffer:
        sizes.append(len(found := original(*given)))
        return found

    monkeypatch.setattr(reading, "read_excerpt", noted)
    return sizes


SMALL_PAGES = {"write_batch_size": 8, "data_page_size": 8_000, "dictionary_pagesize_limit": 10_000}
WRITERS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "no dictionary": {"use_dictionary": False},
    "dictionary throughout": {"dictionary_pagesize_limit": 10**9},
    "not compressed": {"compression": "NONE"},
    "zstd": {"compression": "ZSTD"},
    "gzip": {"compression": "GZIP"},
    "version 2": {"data_page_version": "2.0"},
    "version 2, not compressed": {"data_page_version": "2.0", "compression": "NONE"},
    "version 2, zstd, no dictionary": {"data_page_version": "2.0", "compression": "ZSTD", "use_dictionary": False},
    "index": {"write_page_index": True},
    "index, version 2": {"write_page_index": True, "data_page_version": "2.0"},
    "checksums": {"write_page_checksum": True},
    "checksums, index": {"write_page_checksum": True, "write_page_index": True, "compression": "NONE"},
    "tiny pages": {"data_page_size": 1, "write_batch_size": 1},
    "several groups": {"row_group_size": 110},
    "groups of a few pages": {"row_group_size": 23},
    "no Arrow schema": {"store_schema": False},
    "delta lengths": {"use_dictionary": False, "column_encoding": {"image.bytes": "DELTA_LENGTH_BYTE_ARRAY"}},
}


@pytest.mark.parametrize("nulls", [True, False], ids=["nullable", "required"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_range_has_the_rows_of_a_whole_read(tmp_path: Path, writer: str, nulls: bool, excerpts: list[int]) -> None:
    path = tmp_path / "shard.parquet"
    pq.write_table(table(nulls=nulls), path, **{"row_group_size": ROWS, **SMALL_PAGES, **WRITERS[writer]})
    check(path)
    assert excerpts
    check(path, columns=["image", "key"], seed=1, ranges=5)
    check(path, columns=["flat", "boxes"], seed=2, ranges=5)
    check(path, columns=["label"], seed=3, ranges=5)
