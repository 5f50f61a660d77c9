"""Shards of one large row group, as stores read them: on a server, and where a group is over 2 GB."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import storage
from pipeline.errors import DamagedError
from pipeline.storage import s3
from pipeline.stores import open_store, read_rows
from pipeline.stores.tables.ranges import Range, cut_range
from pipeline.stores.tables.schema import image_array
from tests.conftest import new_prefix


def shard(rows: int, size: int, *, small_pages: bool = True) -> tuple[pa.Table, bytes]:
    """Return a table, and its shard of one row group, with pages of a few images or of all."""
    random, names = np.random.default_rng(3), [f"{i:04d}.jpg" for i in range(rows)]
    table = pa.table({"key": names, "image": image_array([random.bytes(size) for _ in names], names)})
    sink = pa.BufferOutputStream()
    pages = {"write_batch_size": 4, "data_page_size": 200_000} if small_pages else {}
    pq.write_table(table, sink, write_page_checksum=True, write_page_index=True, compression="NONE", **pages)
    return table, sink.getvalue().to_pybytes()


def ranges(url: str, count: int) -> Sequence[Range]:
    [whole] = open_store(url).ranges
    return list(cut_range(whole, -(-whole.rows // count), whole.size))


@pytest.mark.parametrize("small_pages", [True, False])
def test_ranges_of_a_shard_of_one_row_group(any_prefix: str, small_pages: bool) -> None:
    table, data = shard(200, 100_000, small_pages=small_pages)
    storage.create(f"{any_prefix}/s.parquet", data)
    found = [read_rows([piece]) for piece in ranges(any_prefix, 20)]
    assert [len(rows) for rows in found] == [10] * 20
    assert pa.concat_tables(found).select(["key", "image"]).equals(table)


def test_a_range_on_a_server_takes_few_requests_for_few_bytes(s3_server: str, request: pytest.FixtureRequest) -> None:
    prefix = new_prefix("s3", request)
    _, data = shard(200, 100_000)
    storage.create(f"{prefix}/s.parquet", data)
    pieces = ranges(prefix, 10)
    read_rows(pieces[:1])
    asked: list[int] = []
    original = s3.read_range
    with pytest.MonkeyPatch.context() as patch:

        def noted(fs, path, url, start, stop, *rest, **options):  # type: ignore[no-untyped-def]
            asked.append(stop - start)
            return original(fs, path, url, start, stop, *rest, **options)

        patch.setattr(s3, "read_range", noted)
        read_rows(pieces[7:8])
    print(f"{len(asked)} requests for {sum(asked)} bytes")
    assert len(asked) <= 3
    assert sum(asked) < 2_000_000 + 1_000_000


def test_a_damaged_page_fails_the_ranges_that_need_it_by_name(tmp_path: Path) -> None:
    _, data = shard(200, 100_000)
    harmed = bytearray(data)
    harmed[len(data) // 2] ^= 1
    (tmp_path / "s.parquet").write_bytes(harmed)
    read, failed = list[int](), dict[int, str]()
    for i, piece in enumerate(ranges(str(tmp_path), 20)):
        try:
            read.append(len(read_rows([piece])))
        except DamagedError as error:
            failed[i] = str(error)
    assert set(failed) in ({9}, {10}, {9, 10})
    assert read == [10] * (20 - len(failed))
    assert all(f"{tmp_path}/s.parquet: OSError" in said and "CRC" in said for said in failed.values())


# --- over 2 GB -----------------------------------------------------------------------------------------------------

READ = """
import sys, time
from pipeline.stores import open_store, read_rows
from pipeline.stores.tables.ranges import cut_range

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1000

ranges, most = list(open_store(sys.argv[1]).ranges), int(sys.argv[2])  # a large row group is several
before, begun, count = peak(), time.monotonic(), 0
cut = [[piece] for each in ranges for piece in cut_range(each, most, 10**12)]
for pieces in cut if most < 2500 else [ranges]:
    rows = read_rows(pieces)
    for key, image in zip(rows["key"].to_pylist(), rows["image"]):
        data = image["bytes"].as_buffer()
        assert data.size == 1_000_000 and int(key) % 100 == int.from_bytes(memoryview(data)[:8], "little"), key
        count += 1
print(count, peak() - before)
print(f"{time.monotonic() - begun:.1f} s, {before} MB before, at most {peak()} MB", file=sys.stderr)
"""


def over_2_gb() -> pa.Table:
    """Return 2,500 rows of 1 MB, in which the same hundred images stand again and again, also in memory."""
    filler = np.random.default_rng(0).bytes(1_000_000 - 8)
    images = image_array([i.to_bytes(8, "little") + filler for i in range(100)], [f"{i}" for i in range(100)])
    return pa.table({"key": [str(i) for i in range(2500)], "image": pa.chunked_array([images] * 25)})


@pytest.mark.long
@pytest.mark.parametrize(
    ("rows_in_a_page", "rows_at_once", "most_mb"),
    [(1, 25, 400), (100, 25, 700), (1, 2500, 4000)],
    ids=["pages of 1 MB", "pages of 100 MB", "all at once"],
)
def test_a_row_group_over_2_gb(tmp_path: Path, rows_in_a_page: int, rows_at_once: int, most_mb: int) -> None:
    options = {"compression": "NONE", "use_dictionary": False, "write_batch_size": rows_in_a_page}
    pq.write_table(over_2_gb(), tmp_path / "s.parquet", **options)
    assert pq.read_metadata(tmp_path / "s.parquet").num_row_groups == 1
    command = [sys.executable, "-c", READ, str(tmp_path), str(rows_at_once)]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=280)
    (tmp_path / "s.parquet").unlink()
    read, grown = map(int, found.stdout.split())
    assert read == 2500
    assert grown < most_mb


@pytest.mark.long
@pytest.mark.parametrize("rows", [25, 2500])
def test_a_small_row_group_whose_repeated_images_are_over_2_gb(tmp_path: Path, rows: int) -> None:
    image = np.random.default_rng(0).bytes(1_000_000)
    images = pa.chunked_array([image_array([image] * 25, [None] * 25)] * 100)
    table = pa.table({"key": [str(i) for i in range(2500)], "image": images})
    pq.write_table(table, tmp_path / "s.parquet", dictionary_pagesize_limit=10**9)
    assert (tmp_path / "s.parquet").stat().st_size < 3_000_000
    [whole] = open_store(str(tmp_path)).ranges
    found = read_rows([whole._replace(start=2500 - rows)])
    assert found["key"].to_pylist() == table["key"].to_pylist()[-rows:]
    assert all(each["bytes"].as_buffer().equals(pa.py_buffer(image)) for each in found["image"])
