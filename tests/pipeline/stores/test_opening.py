"""Stores as `open_store` finds them, from the listing at their URL."""

from __future__ import annotations

import io
import os
from pathlib import Path

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import images, storage
from pipeline.engine.records.limits import Limits
from pipeline.engine.records.units import Unit, decode_units, encode_segment, plan_units
from pipeline.errors import StorageError, UserError
from pipeline.stores import SourceChangedError, Store, is_listed, open_store, read_rows, read_unchanged_rows
from pipeline.stores.mark import Totals, encode_mark
from pipeline.stores.tables.ranges import Ranges
from tests import corpus

PICTURE = images.encode(corpus.picture(1), images.Encoding(codec="png"))

IMPOSSIBLE = {
    ("s3", "c\\d.png"): "SeaweedFS takes a backslash for a slash",
    ("memory", "a::b.png"): "fsspec's memory filesystem takes :: for the start of another URL",
}


def put(url: str, *names: str) -> str:
    for name in names:
        storage.replace(storage.join(url, name), PICTURE)
    return url


@pytest.mark.parametrize(
    "name",
    [
        "a::b.png", "s3:x.png", "a#b.png", "a?b.png", "a%20b.png", "[x].png", "~t.png", "c\\d.png", "a\nb.png",
        "end /x .png", "p%2Fc.png", "e\u0301.png", "\u202e.png", "\U0001f600+&<.png",
    ],
)  # fmt: skip
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


def test_a_file_whose_name_is_no_text_is_read_under_an_escaped_key(tmp_path: Path) -> None:
    for name in (b"caf\xe9.png", b"\xff/a.png", b"clash\xfe.png", rb"clash\xfe.png", rb"literal\xfd.png"):
        path = os.fsencode(tmp_path) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(PICTURE + name)
    store = open_store(str(tmp_path))
    rows = read_rows([decoded for unit in planned(store) for decoded in unit.ranges])
    assert {row["key"]: row["image"]["bytes"] for row in rows.to_pylist()} == {
        r"caf\xe9.png": PICTURE + b"caf\xe9.png",
        r"\xff/a.png": PICTURE + b"\xff/a.png",
        r"clash\xfe.png": PICTURE + rb"clash\xfe.png",
        r"literal\xfd.png": PICTURE + rb"literal\xfd.png",
    }
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    assert open_store(odd).url == rf"{tmp_path}/\xff"
    assert read_rows(open_store(odd).ranges)["key"].to_pylist() == ["a.png"]
    assert store.passed_over == (storage.PassedOver("names that a plan cannot hold", 1, r"clash\xfe.png"),)


def planned(store: Store) -> list[Unit]:
    """Return the units of a store, as their plan has them."""
    plan = encode_segment([plan_units(store.ranges, Limits())], number=0, job="pack", recipe={}, sources={})
    return decode_units(pq.read_table(io.BytesIO(plan)))


def test_what_cameras_write_is_an_input_and_what_is_passed_over_is_counted(any_prefix: str) -> None:
    wanted = ["_DSC0007.JPG", "_MG_4411.jpg", "_night/x.jpg", "a.jfif", "b.JPE", "c.apng"]
    put(any_prefix, *wanted, "x.heic", "y.HEIC", "none", ".DS_Store", "._a.jpg", "_meta/1.parquet")
    store = open_store(any_prefix)
    assert [piece.shard for piece in store.ranges] == sorted(wanted)
    assert {(each.reason, each.count, each.example) for each in store.passed_over} == {
        ("files ending in .heic", 2, "x.heic"),
        ("files without an ending", 1, "none"),
        ("names that begin with a dot", 2, ".DS_Store"),
        ("Parquet files whose name, or folder's name, begins with _", 1, "_meta/1.parquet"),
    }


def test_nothing_but_what_is_passed_over_is_said(tmp_path: Path) -> None:
    put(str(tmp_path), "x.heic", "y.heic")
    with pytest.raises(UserError, match=r"no image .* passed over are 2 files ending in \.heic, such as x\.heic"):
        open_store(str(tmp_path))


@pytest.mark.parametrize("ending", images.EXTENSIONS)
def test_every_ending_is_of_a_format_that_can_be_decoded(ending: str) -> None:
    others = {".jif": "JPEG", ".jfi": "JPEG", ".jxl": "JPEG XL", ".heic": "HEIF", ".heif": "HEIF"}
    known = others | PIL.Image.registered_extensions()
    assert known[ending] in images.FORMATS


def test_shards_in_a_folder_that_is_called_like_one(any_prefix: str) -> None:
    shard = io.BytesIO()
    pq.write_table(pa.table({"x": [1]}), shard)
    storage.replace(f"{any_prefix}/photos.parquet/part-0.parquet", shard.getvalue())
    storage.replace(f"{any_prefix}/photos.parquet/_SUCCESS", b"")
    for url in ("photos.parquet", "photos.parquet/", "", "*.parquet", "photos.parquet/part-0.parquet"):
        assert open_store(f"{any_prefix}/{url}").rows == 1


def test_underscores_hide_what_an_output_keeps_for_itself(tmp_path: Path) -> None:
    put(str(tmp_path), "out/_transdomain/job.json", "out/_quarantine/x.png", "out/data/_DSC1.png", "_quarantine/y.png")
    for url in (str(tmp_path), f"{tmp_path}/out"):
        with pytest.raises(UserError, match="has not finished"):
            open_store(url)
    (tmp_path / "out/_SUCCESS").write_bytes(encode_mark(0, Totals(0, 0, 0, 0, 0), None))
    assert [r.shard for r in open_store(str(tmp_path)).ranges] == ["_quarantine/y.png", "out/data/_DSC1.png"]
    assert [r.shard for r in open_store(f"{tmp_path}/out").ranges] == ["_DSC1.png"]
    assert [r.shard for r in open_store(f"{tmp_path}/out/data").ranges] == ["_DSC1.png"]


def test_links_are_read_as_what_they_lead_to(tmp_path: Path) -> None:
    put(str(tmp_path), "blobs/1", "other/b.png", "in/a.png")
    os.symlink("../blobs/1", tmp_path / "in/linked.png")
    os.symlink(tmp_path / "other", tmp_path / "in/shared")
    os.symlink(tmp_path / "in", tmp_path / "link")
    os.utime(tmp_path / "in/linked.png", (1, 1), follow_symlinks=False)
    store = open_store(f"{tmp_path}/link")
    assert read_rows(store.ranges)["key"].to_pylist() == ["a.png", "linked.png", "shared/b.png"]
    (tmp_path / "blobs/1").write_bytes(PICTURE + b"!")
    with pytest.raises(SourceChangedError, match=r"linked\.png has changed"):
        read_rows(store.ranges)


def test_a_file_that_may_not_be_read_is_named_and_no_fault_of_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(put(str(tmp_path), "a.png"))

    def denied(url: str, **_: object) -> bytes:
        raise PermissionError(13, "Permission denied", url)

    monkeypatch.setattr(storage, "read", denied)  # root may read everything
    with pytest.raises(StorageError, match=r"a\.png: may not be read \(Permission denied\)"):
        read_rows(store.ranges)


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
    assert open_store(str(tmp_path)).form == "parquet"
    assert "1 image files, such as a.png, stand beside Parquet shards and are not read" in caplog.text


def test_shards_that_need_not_be_alike_give_what_they_have_in_common(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1], "y": ["a"], "z": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"z": [1.5], "x": [2], "w": [0]}), tmp_path / "2.parquet")
    with pytest.raises(UserError, match="columns differ"):
        open_store(str(tmp_path)).ranges  # noqa: B018
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
        ("/a/_out/x.parquet", "/a", False), ("/a/_out/x.png", "/a", True), ("/a/_quarantine/x.png", "/a", False),
        ("/a/out/x", "/a/cam*", False), ("/a/cam9/x", "/a/cam*", True),
        ("/a/out/data/slot=1/x", "/a/*/data/slot=*", True), ("/a/out/data/x", "/a/*/x", False),
        ("/a/[x]/y", "/a/[x]*", True),
    ],
)  # fmt: skip
def test_what_would_be_listed_as_a_part_of_a_store(url: str, store: str, listed: bool) -> None:
    assert (
        is_listed(url, Store(store, "folder", pa.schema([]), storage.Entries.of([]), lambda which: Ranges.of([])))
        is listed
    )


def test_an_output_that_a_link_leads_to_is_seen_to_be_listed(tmp_path: Path) -> None:
    put(str(tmp_path), "in/a.png", "elsewhere/b.png")
    os.symlink("../elsewhere", tmp_path / "in/linked")
    os.symlink("in", tmp_path / "input")
    for url in (f"{tmp_path}/in", f"{tmp_path}/input", f"{tmp_path}/in*"):
        store = open_store(url)
        assert is_listed(f"{tmp_path}/elsewhere/out/data/x.parquet", store), url
        assert is_listed(f"{tmp_path}/input/out/x.png", store), url
        assert not is_listed(f"{tmp_path}/elsewhere/_transdomain/x.png", store)
        assert not is_listed(f"{tmp_path}/out/x.png", store)


def test_what_is_left_of_shards_and_why_the_rest_is_not(tmp_path: Path) -> None:
    for name in ("1", "2"):
        pq.write_table(pa.table({"x": [1, 2], "label": ["a", "b"]}), tmp_path / f"{name}.parquet")
    store = open_store(str(tmp_path))
    (tmp_path / "1.parquet").unlink()
    rows, lost = read_unchanged_rows(store.ranges, store.schema, ["x"])
    assert rows["key"].to_pylist() == ["2.parquet#000000000", "2.parquet#000000001"]
    assert [key for key, _, _ in lost] == ["1.parquet#000000000", "1.parquet#000000001"]
    assert {why for _, _, why in lost} == {f"{tmp_path}/1.parquet is gone since it was planned"}
    (tmp_path / "2.parquet").unlink()
    none, lost = read_unchanged_rows(store.ranges, store.schema, ["x"])
    assert none.schema == rows.schema
    assert len(lost) == 4


def test_names_with_an_underscore_are_counted_and_a_folder_that_ends_like_ours_is_none(tmp_path: Path) -> None:
    put(str(tmp_path), "1.png", "my_transdomain/p.png", "my_transdomain/job.json", "_DSC1.NEF", "DSC2.NEF", "_SUCCESS")
    store = open_store(str(tmp_path))
    assert [r.shard for r in store.ranges] == ["1.png", "my_transdomain/p.png"]
    assert {each.reason: each.count for each in store.passed_over} == {
        "files ending in .nef": 2,
        "files ending in .json": 1,
    }
