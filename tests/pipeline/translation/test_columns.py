"""Columns of an input that bear the names of ours: kept under others, or refused before any work."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import pack, translate, verify
from pipeline import images, storage
from tests import corpus


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    return corpus.write_bundle(str(tmp_path / "bundle"))


def picture(seed: int) -> dict[str, Any]:
    return {"bytes": images.encode(corpus.picture(seed), images.Encoding()), "path": None}


def write(path: Path, **columns: list[Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {"key": ["a", "b"], "image": [picture(1), picture(2)], **columns}
    pq.write_table(pa.table(table), path)
    return str(path)


def run(job: Any, source: str, output: Path, *options: str) -> int:
    return job.main(["--input", source, "--output", str(output), "--local", *options])


def test_a_translation_can_be_translated_again_and_again(tmp_path: Path, bundle: str) -> None:
    options = ("--bundle", bundle, "--keep_source")
    source = write(tmp_path / "in/0.parquet", label=[3, 4])
    for number in (1, 2, 3):
        assert run(translate, source, tmp_path / f"out{number}", *options) == 0
        assert verify.main(["--input", str(tmp_path / f"out{number}")]) == 0
        source = str(tmp_path / f"out{number}")
    rows = corpus.rows(source)
    assert [row["label"] for row in rows] == [3, 4]
    assert [row["input_input_source_shard"] for row in rows] == ["0.parquet", "0.parquet"]
    assert [row["source_shard"] for row in rows] == ["000000-000000.parquet"] * 2
    once = corpus.rows(str(tmp_path / "out1"))
    assert [row["input_source_image"] for row in rows] == [row["image"] for row in once]
    shard = next(e.url for e in storage.list_files(f"{source}/data"))
    assert b"input_input_source_image" in pq.read_schema(io.BytesIO(storage.read(shard))).metadata[b"huggingface"]


def test_a_packed_translation_is_whole(tmp_path: Path, bundle: str) -> None:
    assert run(translate, write(tmp_path / "in/0.parquet"), tmp_path / "out", "--bundle", bundle) == 0
    assert run(pack, str(tmp_path / "out"), tmp_path / "store") == 0
    assert verify.main(["--input", str(tmp_path / "store")]) == 0
    assert {row["source_shard"] for row in corpus.rows(str(tmp_path / "store"))} == {"0.parquet"}


@pytest.mark.parametrize("name", ["source_key", "model", "exif_orientation", "source_image"])
def test_a_column_of_our_name_is_refused(
    tmp_path: Path, bundle: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "in/0.parquet", **{name: ["x", "y"]})
    assert run(translate, source, tmp_path / "out", "--bundle", bundle) == 2
    assert f"columns {name} would be overwritten" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_image_beside_the_one_that_is_translated_is_not_lost(
    tmp_path: Path, bundle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "in/0.parquet", image_a=[picture(3), picture(4)])
    assert run(translate, source, tmp_path / "out", "--bundle", bundle, "--input_column", "image_a") == 2
    assert "columns image would be overwritten" in capsys.readouterr().err


@pytest.mark.parametrize("job", ["pack", "translate"])
def test_a_width_that_is_no_size_is_not_lost(
    tmp_path: Path, bundle: str, job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "in/0.parquet", width=["1.5 m", "2 m"])
    if job == "pack":
        assert run(pack, source, tmp_path / "out") == 2
    else:
        assert run(translate, source, tmp_path / "out", "--bundle", bundle) == 2
    assert "columns width would be overwritten" in capsys.readouterr().err
