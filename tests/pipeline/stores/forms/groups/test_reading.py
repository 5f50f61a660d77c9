"""Ranges of rows of large row groups: the same rows as a whole read gives, from the bytes of these rows."""

from __future__ import annotations

import base64
import datetime
import io
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import storage
from pipeline.errors import StorageError
from pipeline.storage.retry import BadBody
from pipeline.stores.forms.groups import excerpt, reading, spool
from pipeline.stores.forms.groups.layout import chunk_of, described, layout_of
from pipeline.stores.forms.groups.pages import find_pages
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
    forget()


def forget() -> None:
    """Forget what this process knows of any shard, as a new process does."""
    for known in (reading._pages, reading._layouts, reading._spools):
        known._held.clear()


def read(path: Path, start: int, stop: int, columns: list[str] | None = None) -> pa.Table:
    with storage.open_read(str(path)) as file:
        found = reading.read(Shard(file, str(path), "1", pq.read_metadata(path)), start, stop, columns)
    found.validate(full=True)
    return found


def check(path: Path, *, seed: int = 0, columns: list[str] | None = None, ranges: int = 8) -> None:
    whole, random = pq.ParquetFile(path).read(columns=columns), np.random.default_rng(seed)
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
        sizes.append((found := original(*given)).size)
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
    check(path, columns=["image", "key"], seed=1, ranges=3)
    check(path, columns=["flat", "boxes"], seed=2, ranges=3)
    check(path, columns=["label"], seed=3, ranges=3)


def test_large_binary_is_cut(tmp_path: Path, excerpts: list[int]) -> None:
    path = tmp_path / "shard.parquet"
    pq.write_table(table(data=pa.large_binary()), path, **SMALL_PAGES)
    check(path)
    assert excerpts


def test_views_are_cut(tmp_path: Path, excerpts: list[int]) -> None:
    """pyarrow itself writes views into one page only, so the schema that other writers leave is put beside its own."""
    rows = table()
    image = pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])
    kinds = {"image": image, "flat": pa.binary_view(), "key": pa.string_view()}
    views = pa.schema([field.with_type(kinds.get(field.name, field.type)) for field in rows.schema])
    path = tmp_path / "shard.parquet"
    with pq.ParquetWriter(path, rows.schema, store_schema=False, **SMALL_PAGES) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata({"ARROW:schema": base64.b64encode(views.serialize()).decode()})
    assert pq.read_schema(path).types[:3] == views.types[:3]
    check(path)
    assert excerpts


def from_pandas(path: Path) -> None:
    frame = table(rows=3 * ROWS).drop_columns(["fixed"]).to_pandas()
    frame.index = pd.Index([f"row {i}" for i in range(len(frame))], name="row")
    frame.to_parquet(path, write_batch_size=8, data_page_size=8_000)


def from_duckdb(path: Path) -> None:
    rows = table(rows=3 * ROWS)  # which the query finds by its name
    assert len(rows)
    duckdb.sql(f"copy (select * from rows) to '{path}' (format parquet, row_group_size 2048)")


def from_datasets(path: Path) -> None:
    datasets.Dataset(table(rows=3 * ROWS)).to_parquet(path, batch_size=3 * ROWS)


@pytest.mark.parametrize("write", [from_pandas, from_duckdb, from_datasets])
def test_files_of_other_writers(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "shard.parquet"
    write(path)
    check(path)
    check(path, columns=["image", "key"], ranges=3)


def test_a_column_with_a_dot_in_its_name_and_no_column_at_all(tmp_path: Path) -> None:
    path = tmp_path / "shard.parquet"
    rows = table().rename_columns({"flat": "image.bytes.x"})
    pq.write_table(rows, path, **SMALL_PAGES)
    for columns in (["image.bytes.x"], ["image"], ["image.bytes.x", "image", "boxes"]):
        check(path, columns=columns, ranges=3)
    assert read(path, 3, 9, []).num_columns == 0


# --- bytes and requests --------------------------------------------------------------------------------------------


class Counting(io.FileIO):
    """File on a disk that keeps the length of what each read returned."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reads: list[int] = []

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.reads.append(len(data))
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def images(rows: int, size: int) -> pa.Table:
    random = np.random.default_rng(5)
    names = [f"{i}.jpg" for i in range(rows)]
    pictures = pa.StructArray.from_arrays([pa.array([random.bytes(size) for _ in names]), names], ["bytes", "path"])
    return pa.table({"key": names, "image": pictures, "label": list(range(rows))})


def write_datasets(rows: pa.Table, path: Path) -> None:
    datasets.Dataset(rows).to_parquet(path)


def write_small_pages(rows: pa.Table, path: Path) -> None:
    pq.write_table(rows, path, write_batch_size=1, data_page_size=100_000, use_dictionary=["key"])


def write_by_default(rows: pa.Table, path: Path) -> None:
    pq.write_table(rows, path)


def write_duckdb(rows: pa.Table, path: Path) -> None:
    assert len(rows)  # the query finds them by their name
    duckdb.sql(f"copy (select * from rows) to '{path}' (format parquet)")


@pytest.mark.parametrize(
    ("write", "ranges", "a_range", "once"),
    [
        (write_small_pages, 40, 4, 401),
        (write_datasets, 8, 5, 2),
        (write_by_default, 40, 0, 25),
        (write_duckdb, 40, 0, 25),
    ],
)
def test_all_ranges_of_a_shard_fetch_it_once(
    tmp_path: Path,
    write: Callable[[pa.Table, Path], None],
    ranges: int,
    a_range: int,
    once: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A shard of 40 MB in one row group, as one process reads it, with so many reads once, and so many for a range."""
    monkeypatch.undo()
    caplog.set_level("INFO", "transdomain")
    rows, path = images(400, 100_000), tmp_path / "shard.parquet"
    write(rows, path)
    footer = pq.read_metadata(path)
    assert footer.num_row_groups == 1
    file = Counting(path)
    for i in range(ranges):
        start, stop = 400 * i // ranges, 400 * (i + 1) // ranges
        found = reading.read(Shard(file, str(path), "1", footer), start, stop, None)
        assert found.equals(rows.slice(start, stop - start).cast(found.schema))
    fetched, size = sum(file.reads), path.stat().st_size
    print(f"{write.__name__}: {fetched / size:.3f} of the shard in {len(file.reads)} reads")
    assert size < fetched < 1.3 * size
    assert len(file.reads) <= once + ranges * a_range
    assert ("has to be read whole" in caplog.text) == (not a_range)


# --- what cannot be cut --------------------------------------------------------------------------------------------


def test_without_room_for_a_temporary_file_each_range_is_read_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spool, "has_room", lambda size: False)
    monkeypatch.setattr(spool, "spooled", None)
    caplog.set_level("INFO", "transdomain")
    path = tmp_path / "shard.parquet"
    pq.write_table(table(), path)
    check(path)
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"{path}: row group 0 has to be read whole, since column flat is in pages of many rows, or")
    assert f"this is done for each range, for want of room in {tempfile.gettempdir()}." in said


def test_a_full_disk_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "shard.parquet"
    pq.write_table(table(), path)
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full)
    with pytest.raises(StorageError, match=rf"{tempfile.gettempdir()}: No space left on device; .*TMPDIR"):
        read(path, 200, 210)


def test_a_large_column_of_lists_is_read_whole_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = table().append_column("embedding", pa.array([[float(i)] * 400 for i in range(ROWS)]))
    path = tmp_path / "shard.parquet"
    pq.write_table(rows, path, **SMALL_PAGES)
    check(path)
    file = Counting(path)
    for start in range(200, 290, 3):
        reading.read(Shard(file, str(path), "1", pq.read_metadata(path)), start, start + 3, None)
    assert file.reads == []


def test_pieces_of_a_large_result_are_read_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PIECE_BYTES", 20_000)
    monkeypatch.setattr(reading, "_FEWEST_ROWS", 4)
    path = tmp_path / "shard.parquet"
    pq.write_table(table(), path, **SMALL_PAGES)
    check(path)
    assert read(path, 0, ROWS)["image"].num_chunks > 10
    pq.write_table(table(), path)
    forget()
    check(path)


# --- damage --------------------------------------------------------------------------------------------------------

DAMAGED = (OSError, pa.ArrowInvalid, BadBody)
"""Errors that `storage.retry` takes for damage."""


@pytest.mark.parametrize("index", [True, False])
def test_no_bit_of_the_pages_that_are_read_can_change_unseen(tmp_path: Path, index: bool, excerpts: list[int]) -> None:
    path = tmp_path / "shard.parquet"
    rows = pa.table({"key": [f"{i}" for i in range(ROWS)], "image": pictures()})
    pq.write_table(rows, path, write_page_checksum=True, write_page_index=index, compression="NONE", **SMALL_PAGES)
    whole = path.read_bytes()
    column = pq.read_metadata(path).row_group(0).column(1)
    begin, end = column.dictionary_page_offset, column.dictionary_page_offset + column.total_compressed_size
    seen = 0
    for at in np.random.default_rng(0).integers(begin, end, 80).tolist():
        harmed = bytearray(whole)
        harmed[at] ^= 1 << at % 8
        path.write_bytes(harmed)
        forget()
        try:
            found = read(path, 100, 130)
        except DAMAGED:
            seen += 1
        else:  # it is in a page that is not read
            assert found.equals(rows.slice(100, 30)), at
    assert 3 < seen < 40
    assert excerpts


@pytest.mark.parametrize(
    ("width", "index"),
    [
        (10, True),
        (60, False),
        pytest.param(10, False, marks=pytest.mark.long),
        pytest.param(60, True, marks=pytest.mark.long),
    ],
)
def test_no_bit_of_an_index_or_of_a_header_can_shift_rows_unseen(tmp_path: Path, index: bool, width: int) -> None:
    path = tmp_path / "shard.parquet"
    rows = pa.table({"image": pictures()})
    pq.write_table(rows, path, write_page_index=index, compression="NONE", use_dictionary=False, **SMALL_PAGES)
    whole = path.read_bytes()
    footer = pq.read_metadata(path)
    layout = layout_of(footer)
    chunk = chunk_of(described(layout, 0)[0])
    with path.open("rb") as file:
        places = [page.start + i for page in find_pages(file, chunk).data[::3] for i in range(20)]
    if chunk.offset_index:
        places += range(chunk.offset_index[0], sum(chunk.offset_index))
    assert bool(chunk.offset_index) == index
    seen = 0
    for at in places:
        harmed = bytearray(whole)
        harmed[at] ^= 1 << at % 8
        path.write_bytes(harmed)
        forget()
        try:
            found = read(path, 100, 100 + width)
        except DAMAGED:
            seen += 1
        else:
            assert found.equals(rows.slice(100, width)), at
    assert seen > 10


def test_no_bit_of_the_headers_of_a_small_column_can_shift_its_rows_unseen(tmp_path: Path, excerpts: list[int]) -> None:
    path = tmp_path / "shard.parquet"
    rows = pa.table({"key": [f"{i}" for i in range(ROWS)], "image": pictures()})
    pq.write_table(rows, path, compression="NONE", use_dictionary=False, write_batch_size=8, data_page_size=100)
    whole, column = path.read_bytes(), pq.read_metadata(path).row_group(0).column(0)
    assert column.total_compressed_size < 5_000
    for at in range(column.data_page_offset, column.data_page_offset + 20):
        harmed = bytearray(whole)
        harmed[at] ^= 1 << at % 8
        path.write_bytes(harmed)
        forget()
        try:
            found = read(path, 200, 230)
        except DAMAGED:
            continue
        assert found.equals(rows.slice(200, 30)), at
    assert excerpts
