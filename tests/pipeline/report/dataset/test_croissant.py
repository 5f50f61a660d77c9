"""Croissant metadata of outputs: `mlcroissant` validates them, and loads the records with their pictures."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from jobs import augment, pack, translate, verify
from pipeline import images, storage
from pipeline.report.dataset import records
from pipeline.report.dataset.croissant import CONFORMS_TO
from pipeline.stores.tables.schema import image_column
from tests import corpus

DAYS = ("2026-10-01", "2026-10-02")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give `mlcroissant` an empty cache: it keeps unpacked tars by their name below the output alone."""
    pytest.importorskip("mlcroissant")  # here and in `loaded`, since its import takes a second
    from mlcroissant._src.operation_graph.operations import extract

    monkeypatch.setattr(extract, "EXTRACT_PATH", extract.epath.Path(tmp_path / "extracted"))


def loaded(output: Path, record_set: str = "rows") -> list[dict[str, Any]]:
    """Return the records of an output by the names of their fields, after a check that the metadata are valid."""
    import mlcroissant

    dataset = mlcroissant.Dataset(jsonld=str(output / "croissant.json"))
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    assert all("is recommended" in warning for warning in issues.warnings), issues.warnings
    assert dataset.metadata.ctx.is_v1_1()
    rows = []
    for row in dataset.records(record_set):
        plain = {name.partition("/")[2]: value for name, value in row.items()}
        rows.append({n: value.decode() if isinstance(value, bytes) else value for n, value in plain.items()})
    return rows


def said_of(output: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((output / "croissant.json").read_text())
    assert said["conformsTo"] == CONFORMS_TO
    return said


def packed(tmp_path: Path, form: str, count: int = 6) -> Path:
    source, output = corpus.write_folder(str(tmp_path / "in"), count), tmp_path / "out"
    options = ["--input", source, "--output", str(output), "--local", "--limits.rows", "4", "--form", form]
    assert pack.main(options) == 0
    return output


def check_files(output: Path) -> list[str]:
    """Check size and checksum of each file that is named; return the names."""
    files = [each for each in said_of(output)["distribution"] if each["@type"] == "cr:FileObject"]
    for each in files:
        data = (output / each["contentUrl"]).read_bytes()
        assert each["sha256"] == hashlib.sha256(data).hexdigest()
        assert each["contentSize"] == f"{len(data)} B"
    return [each["contentUrl"] for each in files]


def test_parquet(tmp_path: Path) -> None:
    output = packed(tmp_path, "parquet")
    rows = loaded(output)
    expected = {row["key"]: row for row in corpus.rows(str(output))}
    assert {row["key"] for row in rows} == set(expected)
    for row in rows:
        data = expected[row["key"]]["image"]["bytes"]
        assert np.array_equal(np.asarray(row["image"]), images.decode(data).pixels)
        assert (row["width"], row["height"]) == (24, 24)
    assert len(check_files(output)) == 3
    said = said_of(output)
    assert said["prov:wasDerivedFrom"] == [{"@id": f"file://{tmp_path}/in"}]
    (made,) = said["prov:wasGeneratedBy"]
    assert made["prov:label"] == "transdomain jobs.pack"
    assert made["prov:startedAtTime"] <= made["prov:endedAtTime"] == said["datePublished"]
    assert "isLiveDataset" not in said
    assert "license" not in said, "nobody said one"
    assert verify.main(["--input", str(output)]) == 0


def test_a_folder_has_its_columns_beside_each_picture(tmp_path: Path) -> None:
    output = packed(tmp_path, "folder")
    rows = loaded(output)
    assert {row["key"]: row["file_name"] for row in rows} == {
        name: name
        for name in ("even/000.jpg", "even/002.png", "even/004.png", "odd/001.png", "odd/003.jpg", "odd/005.png")
    }
    for row in rows:
        data = (output / "data" / row["file_name"]).read_bytes()
        assert np.array_equal(np.asarray(row["image"]), images.decode(data).pixels)
        assert row["width"] == 24
    assert check_files(output) == ["data/metadata.parquet"]


def test_tars_have_pictures_and_columns_by_sample(tmp_path: Path) -> None:
    output = packed(tmp_path, "webdataset")
    pictures, columns = loaded(output, "images"), loaded(output, "columns")
    by_sample = {row["sample"]: json.loads(row["json"]) for row in columns}
    assert {row["sample"] for row in pictures} == set(by_sample)
    assert len(pictures) == 6
    folder = packed(tmp_path / "again", "folder")
    for row in pictures:
        key = by_sample[row["sample"]]["key"]
        assert np.array_equal(np.asarray(row["image"]), images.decode((folder / "data" / key).read_bytes()).pixels)
    assert len(check_files(output)) == 3


@pytest.fixture(scope="module")
def slots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the output of two nightly slots by two translators, with what was translated."""
    folder = tmp_path_factory.mktemp("slots")
    wishes = {
        "sources": {"cameras": str(folder / "in")},
        "output": str(folder / "out"),
        "translators": {
            "night": {"bundle": corpus.write_bundle(str(folder / "night"))},
            "rain": {"bundle": corpus.write_bundle(str(folder / "rain"), width=6)},
        },
        "limits": {"rows": 4},
    }
    (folder / "augment.yaml").write_text(yaml.safe_dump(wishes))
    for number, day in enumerate(DAYS):
        for i in range(3):
            data = images.encode(corpus.picture(10 * number + i), images.Encoding(codec="png"))
            storage.replace(str(folder / f"in/{day}/{i}.png"), data)
        assert augment.main(["--config", str(folder / "augment.yaml"), "--slot", day, "--local"]) == 0
    return folder


def test_slots_by_several_translators_are_a_live_dataset(slots: Path) -> None:
    output = slots / "out"
    rows, expected = loaded(output), corpus.rows(str(output))
    assert sorted((row["key"], row["translator"]) for row in rows) == sorted(
        (r["key"], r["translator"]) for r in expected
    )
    assert {row["slot"] for row in rows} == set(DAYS)
    by_key = {row["key"]: row["image"]["bytes"] for row in expected}
    for row in rows:
        assert np.array_equal(np.asarray(row["image"]), images.decode(by_key[row["key"]]).pixels)
    said = said_of(output)
    assert said["isLiveDataset"] is True
    assert said["version"] == "1.0.0"
    assert [each["prov:label"] for each in said["prov:wasGeneratedBy"]] == [
        f"transdomain jobs.augment, slot {day}" for day in DAYS
    ]
    assert {used["prov:label"] for used in said["prov:wasGeneratedBy"][0]["prov:used"] if "prov:label" in used} == {
        "model night", "model rain"
    }  # fmt: skip
    check_files(output)


def test_a_redone_slot_is_described_by_its_new_version(slots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = slots / "out"
    config = yaml.safe_load((slots / "augment.yaml").read_text())
    config["translators"]["night"]["bundle"] = corpus.write_bundle(str(slots / "other"), width=8)
    (slots / "again.yaml").write_text(yaml.safe_dump(config))
    before = {row["key"] for row in loaded(output)}
    assert augment.main(["--config", str(slots / "again.yaml"), "--redo", DAYS[0], "--local"]) == 0
    assert {row["key"] for row in loaded(output)} == before
    said = said_of(output)
    assert said["version"] == "2.0.0"
    names = check_files(output)
    assert any(name.startswith("_versions/000002/data/slot=") for name in names)
    assert not any(name.startswith(f"data/slot={DAYS[0]}/") for name in names)
    models = {row["model"] for row in loaded(output) if row["slot"] == DAYS[0] and row["translator"] == "night"}
    assert models.isdisjoint({row["model"] for row in loaded(output) if row["slot"] == DAYS[1]})
    own = output / "_versions/000002"
    assert {row["slot"] for row in loaded(own)} == {DAYS[0]}


def test_columns_of_every_kind_come_or_are_said_to_be_left_out(tmp_path: Path) -> None:
    pictures = [images.encode(corpus.picture(i), images.Encoding(codec="png")) for i in range(2)]
    table = pa.table(
        {
            "key": ["a", "b"],
            "image": image_column(pictures, [None, None]),
            "label": pa.array([3, None], pa.int16()),
            "score": [0.5, 1.5],
            "is good?": [True, False],
            "boxes/all": pa.array([[1, 2], []], pa.list_(pa.int64())),
            "taken": pa.array([0, 86_400_000], pa.timestamp("ms")),
            "day": pa.array([0, 1], pa.date32()),
            "nested": [{"x": 1}, {"x": 2}],
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    bundle = corpus.write_bundle(str(tmp_path / "bundle"))
    output = tmp_path / "out"
    options = ["--input", str(tmp_path / "in.parquet"), "--output", str(output), "--bundle", bundle, "--local"]
    assert translate.main(options) == 0
    first, second = loaded(output)
    assert (first["label"], second["label"]) == (3, None)
    assert (first["score"], first["is%20good%3F"]) == (0.5, True)
    assert list(first["boxes%2Fall"]) == [1, 2]
    assert str(second["taken"]).startswith("1970-01-02")
    assert str(second["day"]).startswith("1970-01-02")
    (rows,) = said_of(output)["recordSet"]
    assert rows["description"] == "Columns that Croissant has no type for are left out: nested."
    assert {each["name"] for each in rows["field"]} == set(corpus.rows(str(output))[0]) - {"nested"}


def test_shards_beyond_the_limit_are_not_listed_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MOST_FILES", 2)
    output = packed(tmp_path, "parquet")
    assert check_files(output) == []
    assert "3 shards are not listed one by one" in said_of(output)["description"]
    assert len(loaded(output)) == 6


def test_an_output_without_rows_is_described_too(tmp_path: Path) -> None:
    storage.replace(str(tmp_path / "in/text.jpg"), b"no picture at all")
    output = tmp_path / "out"
    options = ["--input", str(tmp_path / "in"), "--output", str(output), "--local", "--budget.share", "1"]
    assert pack.main(options) == 0
    assert loaded(output) == []
