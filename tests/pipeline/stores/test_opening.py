"""What a store is found to be, from what is listed at its URL."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import images, storage
from pipeline.errors import UserError
from pipeline.stores import Store, is_listed, open_store, read_rows, read_what_is_left
from tests import corpus

PICTURE = images.encode(corpus.picture(1), images.Encoding(codec="png"))

IMPOSSIBLE = {
    ("s3", "a\nb.png"): "a listing in XML has no such name",
    ("s3", "c\\d.png"): "SeaweedFS takes a backslash for a slash",
    ("memory", "a::b.png"): "fsspec's memory filesystem takes :: for the start of another URL",
}


def put(url: str, *names: str) -> str:
    for name in names:
        storage.replace(storage.join(url, name), PICTURE)
    return url


@pytest.mark.parametrize(
    "name", ["a::b.png", "s3:x.png", "a#b.png", "a?b.png", "a%20b.png", "[x].png", "~t.png", "c\\d.png", "a\nb.png"]
)
def test_odd_names_are_keys_like_others(any_prefix: str, name: str) -> None:
    if reason := IMPOSSIBLE.get((any_prefix.split(":")[0], name)):
        pytest.skip(reason)
    store = open_store(put(any_prefix, name, "plain.png"))
    rows = read_rows(store.ranges)
    assert rows["key"].to_pylist() == sorted([name, "plain.png"])
    assert {picture["bytes"] for picture in rows["image"].to_pylist()} == {PICTURE}


def test_an_empty_part_of_a_name_stays_one() -> None:
    fs, path = storage.filesystem("memory://empty-parts")
    for name in ("a//b.png", "/c.png"):
        fs.store[f"{path}/{name}"] = type(fs.open(f"{path}/x", "wb"))(fs, f"{path}/{name}", PICTURE)
    store = open_store("memory://empty-parts")
    assert sorted(read_rows(store.ranges)["key"].to_pylist()) == ["/c.png", "a//b.png"]


def test_a_name_that_is_no_text_is_said_in_one_line(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.png", "wb") as file:
        file.write(PICTURE)
    with pytest.raises(UserError, match=r"the name '\\udcff.png' is not UTF-8; rename the file"):
        open_store(str(tmp_path))


def test_a_star_stands_for_files_too(tmp_path: Path) -> None:
    put(str(tmp_path / "in"), "x/a.png", "y/b.png", "c.png", "d.jpg")
    found = {
        pattern: [piece.shard for piece in open_store(f"{tmp_path}/{pattern}").ranges]
        for pattern in ("in/*.png", "in/x*", "*/y", "in/*")
    }
    assert found == {
        "in/*.png": ["c.png"],
        "in/x*": ["x/a.png"],
        "*/y": ["in/y/b.png"],
        "in/*": ["c.png", "d.jpg", "x/a.png", "y/b.png"],
    }
    pq.write_table(pa.table({"x": [1]}), tmp_path / "1.parquet")
    assert [piece.shard for piece in open_store(f"{tmp_path}/*.parquet").ranges] == ["1.parquet"]
    with pytest.raises(UserError, match="read at any depth already; use a single"):
        open_store(f"{tmp_path}/**/*.png")


@pytest.mark.parametrize("url", ["simplecache::s3://bucket/out", "zip://x.zip::s3://bucket/q"])
def test_a_chain_of_filesystems_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="a chain of filesystems; give the URL of one"):
        storage.filesystem(url)


def test_pictures_beside_shards_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(str(tmp_path), "a.png")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "b.parquet")
    assert open_store(str(tmp_path)).kind == "parquet"
    assert "1 image files, such as a.png, stand beside Parquet shards and are not read" in caplog.text


def test_shards_that_need_not_be_alike_give_what_they_have_in_common(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1], "y": ["a"], "z": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"z": [1.5], "x": [2], "w": [0]}), tmp_path / "2.parquet")
    with pytest.raises(UserError, match="columns differ"):
        open_store(str(tmp_path))
    store = open_store(str(tmp_path), alike=False)
    assert store.schema.names == ["x"]
    assert read_rows(store.ranges, ["x"])["x"].to_pylist() == [1, 2]
    pq.write_table(pa.table({"x": [2], "key": ["a"]}), tmp_path / "3.parquet")
    with pytest.raises(UserError, match="column key is not that of the other shards"):
        open_store(str(tmp_path), alike=False)


@pytest.mark.parametrize(
    ("url", "store", "listed"),
    [
        ("/a/b/x", "/a", True), ("/a/x", "/a", True), ("/ab/x", "/a", False), ("/a/x", "/a/b", False),
        ("/a/_out/x", "/a", False), ("/a/out/x", "/a/cam*", False), ("/a/cam9/x", "/a/cam*", True),
        ("/a/out/data/slot=1/x", "/a/*/data/slot=*", True), ("/a/out/data/x", "/a/*/x", False),
        ("/a/[x]/y", "/a/[x]*", True),
    ],
)  # fmt: skip
def test_what_would_be_listed_as_a_part_of_a_store(url: str, store: str, listed: bool) -> None:
    assert is_listed(url, Store(store, "folder", pa.schema([]), [])) is listed


def test_what_is_left_of_shards_and_why_the_rest_is_not(tmp_path: Path) -> None:
    for name in ("1", "2"):
        pq.write_table(pa.table({"x": [1, 2], "label": ["a", "b"]}), tmp_path / f"{name}.parquet")
    store = open_store(str(tmp_path))
    (tmp_path / "1.parquet").unlink()
    rows, lost = read_what_is_left(store.ranges, store.schema, ["x"])
    assert rows["key"].to_pylist() == ["2.parquet#000000000", "2.parquet#000000001"]
    assert [key for key, _, _ in lost] == ["1.parquet#000000000", "1.parquet#000000001"]
    assert {why for _, _, why in lost} == {f"{tmp_path}/1.parquet is gone since it was planned"}
    (tmp_path / "2.parquet").unlink()
    none, lost = read_what_is_left(store.ranges, store.schema, ["x"])
    assert none.schema == rows.schema
    assert len(lost) == 4
