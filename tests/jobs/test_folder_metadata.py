"""Folders of files with a metadata.parquet: columns beside the files, and what reads and verifies them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import pack, translate, verify
from pipeline import images, storage
from pipeline.stores import open_store, read_rows
from tests import corpus
from tests.conftest import new_prefix
from tests.jobs.test_webdataset import rows_of, run_pack


@pytest.fixture
def labelled(tmp_path: Path) -> str:
    url = str(tmp_path / "labelled")
    pictures = [images.encode(corpus.picture(i), images.Encoding(codec="png" if i % 2 else "jpeg")) for i in range(7)]
    table = pa.table(
        {
            "key": [f"{i % 2}/{i}" for i in range(7)],
            "image": [{"bytes": data, "path": f"{i}.img"} for i, data in enumerate(pictures)],
            "label": [None, *range(6)],
            "boxes": [[[0.5, i]] for i in range(7)],
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    storage.replace(f"{url}/0.parquet", buffer.getvalue())
    return url


def metadata(output: str) -> list[dict[str, Any]]:
    return pq.read_table(f"{output}/data/metadata.parquet").to_pylist()


def test_translations_have_their_columns_beside_them(labelled: str, tmp_path: Path) -> None:
    output, bundle = str(tmp_path / "out"), corpus.write_bundle(str(tmp_path / "bundle"))
    arguments = ["--input", labelled, "--output", output, "--bundle", bundle, "--form", "folder", "--local"]
    assert translate.main([*arguments, "--encoding.codec", "png", "--limits.rows", "3"]) == 0
    rows = metadata(output)
    assert [(row["file_name"], row["source_key"], row["label"]) for row in rows] == [
        (f"{i % 2}/{i}.png", f"{i % 2}/{i}", i - 1 if i else None) for i in range(7)
    ]
    for loaded in (
        datasets.load_dataset(output, split="train", cache_dir=str(tmp_path / "cache")),
        datasets.load_dataset("imagefolder", data_dir=f"{output}/data", split="train", cache_dir=str(tmp_path / "c2")),
    ):
        assert loaded["label"] == [row["label"] for row in rows]
        assert loaded["boxes"] == [row["boxes"] for row in rows]
        assert loaded[0]["image"].size == (24, 24)
    store = open_store(output)
    read = read_rows(store.ranges, ["label"]).to_pylist()
    assert {row["key"]: row["label"] for row in read} == {row["file_name"]: row["label"] for row in rows}


def test_it_is_made_anew_where_it_is_harmed(labelled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert run_pack(labelled, str(output), "--form", "folder") == 0
    assert verify.main(["--input", str(output)]) == 0
    whole = (output / "data/metadata.parquet").read_bytes()
    other = pq.read_table(io.BytesIO(whole))
    for data, what in (
        (whole[:-1], "is harmed"),
        (_encoded(other.slice(0, 6)), "is not what the units say"),
        (_encoded(pa.concat_tables([other, other.slice(0, 1)])), "has rows that no unit has"),
    ):
        (output / "data/metadata.parquet").write_bytes(data)
        capsys.readouterr()
        assert verify.main(["--input", str(output)]) == 1
        assert f"data/metadata.parquet {what}" in capsys.readouterr().out
    assert verify.main(["--input", str(output), "--repair"]) == 1
    assert run_pack(labelled, str(output), "--form", "folder") == 0
    assert verify.main(["--input", str(output)]) == 0
    assert (output / "data/metadata.parquet").read_bytes() == whole


def _encoded(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def test_in_an_output_of_shards_a_file_of_its_name_is_a_stranger(labelled: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert run_pack(labelled, str(output)) == 0
    (output / "data/metadata.parquet").write_bytes((output / "data/000000-000000.parquet").read_bytes())
    assert verify.main(["--input", str(output)]) == 1


def test_packed_files_keep_bytes_and_names_and_get_the_ending_that_they_lack(labelled: str, any_prefix: str) -> None:
    folder = corpus.write_folder(storage.join(any_prefix, "in"), 5)
    output = storage.join(any_prefix, "out")
    assert run_pack(folder, output, "--form", "folder") == 0
    files = {e.name: storage.read(e.url) for e in storage.list_files(storage.join(output, "data"))}
    del files["metadata.parquet"]
    expected = {e.name: storage.read(e.url) for e in storage.list_files(folder) if e.name not in corpus.BROKEN}
    assert files == expected
    other = storage.join(any_prefix, "other")
    assert run_pack(labelled, other, "--form", "folder") == 0
    names = {e.name for e in storage.list_files(storage.join(other, "data"))}
    assert names == {*(f"{i % 2}/{i}.{'png' if i % 2 else 'jpg'}" for i in range(7)), "metadata.parquet"}


@pytest.mark.parametrize("store", ["local", pytest.param("s3", marks=pytest.mark.long)])
def test_every_form_after_the_other_keeps_pixels_and_columns(store: str, request: pytest.FixtureRequest) -> None:
    prefix = new_prefix(store, request)
    said = [{"file_name": f"{i % 2}/{i}.png", "n": i, "boxes": [[i, 0.5]], "text": f"ä{i}"} for i in range(9)]
    folder = storage.join(prefix, "in")
    for i, row in enumerate(said):
        data = images.encode(corpus.picture(i), images.Encoding(codec="png"))
        storage.replace(storage.join(folder, row["file_name"]), data)  # type: ignore[arg-type]
    storage.replace(storage.join(folder, "metadata.parquet"), _encoded(pa.Table.from_pylist(said)))
    before, expected = folder, None
    for step, form in enumerate(("parquet", "webdataset", "folder", "parquet")):
        output = storage.join(prefix, f"{step}-{form}")
        assert run_pack(before, output, "--form", form) == 0
        assert verify.main(["--input", output]) == 0
        rows = [dict(sorted(row.items())) for row in rows_of(output)]
        assert expected is None or rows == expected
        before, expected = output, rows
    assert expected is not None
    assert [(row["key"], row["n"], row["boxes"], row["text"]) for row in expected] == sorted(
        (row["file_name"], row["n"], row["boxes"], row["text"]) for row in said
    )


def test_a_key_that_is_no_path_costs_a_row(tmp_path: Path) -> None:
    cell = {"bytes": images.encode(corpus.picture(1), images.Encoding()), "path": None}
    keys = ["a", "../b", "c//d", "e" * 252, "f.jpg"]
    storage.replace(f"{tmp_path}/in/0.parquet", _encoded(pa.table({"key": keys, "image": [cell] * len(keys)})))
    for form, expected in (("folder", ["a.jpg", "f.jpg"]), ("webdataset", sorted(keys))):
        output = str(tmp_path / form)
        assert run_pack(f"{tmp_path}/in", output, "--form", form) == 0
        assert [row["key"] for row in rows_of(output)] == expected
        assert verify.main(["--input", output]) == 0


def test_several_images_a_row_that_are_no_pair_make_no_file(
    labelled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(f"{labelled}/0.parquet")
    (tmp_path / "masks").mkdir()
    pq.write_table(table.append_column("mask", table["image"]), tmp_path / "masks/0.parquet")
    arguments = ["--input", str(tmp_path / "masks"), "--output", str(tmp_path / "out"), "--form", "folder"]
    assert pack.main([*arguments, "--local"]) == 2
    said = capsys.readouterr().err
    assert "a folder has one image a row, and this store image, mask; name one with --input_column, or use" in said
    assert not (tmp_path / "out").exists()
