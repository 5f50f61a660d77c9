"""What a store is found to be, from what is listed at its URL."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import images, storage
from pipeline.errors import UserError
from pipeline.stores import is_inside, open_store, read_rows, read_what_is_left
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


@pytest.mark.parametrize(
    ("output", "store", "inside"),
    [
        ("/a/b", "/a", True), ("/a", "/a", True), ("/ab", "/a", False), ("/a", "/a/b", False),
        ("/a/out", "/a/cam*", False), ("/a/cam9", "/a/cam*", True),
        ("/a/out", "/a/*", True), ("/a/out", "/a/*/x", False),
    ],
)  # fmt: skip
def test_an_output_is_inside_of_a_store_whose_listing_would_show_it(output: str, store: str, inside: bool) -> None:
    assert is_inside(output, store) is inside


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
