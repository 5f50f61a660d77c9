"""WebDataset tars as stores: what is listed, read by ranges, and written."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import images, storage
from pipeline.errors import UserError
from pipeline.stores import SHARD, SourceChangedError, open_store, read_rows
from pipeline.stores.forms.tars.headers import TarError
from pipeline.stores.forms.webdataset import WebDataset
from pipeline.stores.tables.ranges import Ranges, cut_range
from pipeline.stores.tables.schema import IMAGE_TYPE
from tests import corpus
from tests.tars import tar_of, write_tar

FORM = WebDataset()
PICTURE = images.encode(corpus.picture(1), images.Encoding(codec="png"))


def samples(first: int, count: int) -> list[tuple[str, bytes]]:
    files = []
    for i in range(first, first + count):
        files += [(f"{i % 2}/{i:04d}.png", PICTURE), (f"{i % 2}/{i:04d}.json", json.dumps({"n": i}).encode())]
    return files


@pytest.mark.parametrize("seed", range(3))
def test_every_cut_into_ranges_gives_each_sample_once(any_prefix: str, seed: int) -> None:
    for i in range(3):
        write_tar(f"{any_prefix}/{i}.tar", samples(100 * i, 40))
    store = open_store(any_prefix)
    assert store.rows == 120
    most = int(np.random.default_rng(seed).integers(1, 50))
    pieces = [piece for whole in store.ranges for piece in cut_range(whole, most, 10_000_000)]
    rows = [row for piece in pieces for row in read_rows([piece], ["n", "image"]).to_pylist()]
    assert [row["n"] for row in rows] == [100 * i + j for i in range(3) for j in range(40)]
    assert all(row["image"]["bytes"] == PICTURE and row["key"].endswith(f"{row['n']:04d}") for row in rows)
    wanted = read_rows(store.ranges, ["n"], wants=lambda key: key.endswith("7"))
    assert wanted["n"].to_pylist() == [100 * i + j for i in range(3) for j in (7, 17, 27, 37)]
    assert wanted[SHARD].to_pylist() == [f"{i}.tar" for i in range(3) for _ in range(4)]


def test_ranges_are_of_a_few_megabytes_whatever_is_in_a_tar(tmp_path: Path) -> None:
    write_tar(f"{tmp_path}/a.tar", [(f"{i}.png", bytes(900_000 if i < 10 else 0)) for i in range(2000)])
    ranges = open_store(str(tmp_path)).ranges
    assert [(r.start, r.stop) for r in ranges] == [(0, 4), (4, 8), (8, 1032), (1032, 2000)]
    assert sum(r.size for r in ranges) == 512 * 2000 + 10 * 900_096
    assert isinstance(ranges, Ranges)


def test_one_tar_is_a_store_and_what_is_no_sample_is_counted(tmp_path: Path) -> None:
    url = f"{tmp_path}/in/a.tar"
    hidden = [("README", b"x"), ("./._a.jpg", b"x"), (".b.jpg", b"x")]
    storage.replace(url, tar_of([*hidden, ("./c/d.jpg", PICTURE)]))
    (tmp_path / "in/b.tar.gz").write_bytes(b"x")
    (tmp_path / "in/c.txt").write_bytes(b"x")
    for place in (url, f"{tmp_path}/in"):
        store = open_store(place)
        assert read_rows(store.ranges)["key"].to_pylist() == ["c/d"]
        assert {(each.reason, each.count, each.example) for each in store.looked_over()} == {
            ("members of tars without an ending, so of no sample", 1, "a.tar: README"),
            ("members of tars whose name begins with a dot", 2, "a.tar: ./._a.jpg"),
        }
    assert {(each.reason, each.count) for each in store.passed_over} == {
        ("compressed tars, which cannot be read in parts (decompress them)", 1),
        ("files ending in .txt", 1),
    }
    with pytest.raises(UserError, match="decompress it"):
        open_store(f"{tmp_path}/in/b.tar.gz")


def test_parquet_files_beside_tars_of_their_names_repeat_what_these_say(tmp_path: Path) -> None:
    write_tar(f"{tmp_path}/00000.tar", samples(0, 2))
    (tmp_path / "00000.parquet").write_bytes(b"never read")
    (tmp_path / "00000_stats.json").write_bytes(b"{}")
    store = open_store(str(tmp_path))
    assert store.form == "webdataset"
    assert ("Parquet files beside tars of their names, whose metadata they repeat", 1) in [
        (each.reason, each.count) for each in store.passed_over
    ]


def test_a_tar_that_changes_is_not_read_as_it_was(tmp_path: Path) -> None:
    write_tar(f"{tmp_path}/a.tar", samples(0, 2))
    store = open_store(str(tmp_path))
    ranges = list(store.ranges)
    write_tar(f"{tmp_path}/a.tar", samples(5, 3))
    with pytest.raises(SourceChangedError):
        read_rows(ranges)


TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
CELLS = st.none() | st.fixed_dictionaries({"bytes": st.none() | st.binary(max_size=20), "path": st.none() | TEXT})
ROWS = st.lists(
    st.fixed_dictionaries(
        {"image": CELLS, "image_b": CELLS, "n": st.none() | st.integers(-9, 9), "odd/name.x": st.none() | st.floats()}
    ),
    max_size=4,
)


@given(rows=ROWS, keys=st.lists(TEXT, min_size=4, max_size=4, unique=True), note=TEXT)
@settings(max_examples=50)
def test_what_is_written_is_read_as_it_was(rows: list[dict[str, object]], keys: list[str], note: str) -> None:
    schema = pa.schema(
        [
            ("image", IMAGE_TYPE),
            ("key", pa.string()),
            ("image_b", IMAGE_TYPE),
            ("n", pa.int16()),
            ("odd/name.x", pa.float32()),
        ]
    )
    table = pa.Table.from_pylist([row | {"key": key} for row, key in zip(rows, keys, strict=False)], schema)
    data, files = FORM.encode(table, {"transdomain": note}, "image", "")
    assert not files
    assert FORM.encode(table, {"transdomain": note}, "image", "")[0] == data
    assert FORM.check(data) == ({"transdomain": note}, len(rows))
    found = FORM.columns(data, table.column_names)
    assert found.schema == schema
    assert repr(found.to_pylist()) == repr(table.to_pylist())  # NaN is NaN
    assert FORM.columns(data, ["n", "none", "key"]).column_names == ["n", "key"]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
    assert (
        len(members)
        == sum(1 + sum((row[c] or {}).get("bytes") is not None for c in ("image", "image_b")) for row in rows)
        or not rows
    )  # type: ignore[attr-defined]


@given(at=st.integers(0), bit=st.integers(0, 7))
@settings(max_examples=100)
def test_any_bit_that_is_harmed_is_found(at: int, bit: int) -> None:
    table = pa.table({"key": ["a", "b"], "n": [1, 2]})
    data = bytearray(FORM.encode(table, {"transdomain": "account"}, "image", "")[0])
    whole = FORM.check(bytes(data))
    data[at % len(data)] ^= 1 << bit
    try:
        found = FORM.check(bytes(data))
    except TarError:
        return
    assert found == whole  # of the global header, bytes that say nothing, such as its time
    assert at % len(data) < 512
