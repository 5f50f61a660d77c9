"""Outputs as other programs open them: each reads every row once, and what an output keeps for itself never."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import datasets
import duckdb
import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import pack, translate
from pipeline import images
from tests import corpus

COUNT = 7
MODELS = ("day", "night")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make outputs of every form, with broken images, several units and one without rows, and of two models."""
    folder = tmp_path_factory.mktemp("readers")
    source = corpus.write_folder(str(folder / "in"), COUNT)
    (folder / "labels.csv").write_text("key,label\n" + "".join(f"{name},{i}\n" for i, name in enumerate(names(source))))
    options = ["--input", source, "--local", "--limits.rows", "2", "--budget.share", "0.9"]
    for form in ("parquet", "webdataset", "folder"):
        arguments = [*options, "--form", form, "--labels", str(folder / "labels.csv")]
        assert pack.main([*arguments, "--output", str(folder / form)]) == 0
    alike = ["--form", "webdataset", "--resize", "24", "--labels", str(folder / "labels.csv")]
    assert pack.main([*options, *alike, "--output", str(folder / "one format")]) == 0
    models = [corpus.write_bundle(str(folder / name), width=width) for name, width in zip(MODELS, (4, 6), strict=True)]
    assert translate.main([*options, "--bundle", *models, "--output", str(folder / "models")]) == 0
    return folder


def names(source: str) -> list[str]:
    files = [str(path.relative_to(source)) for path in Path(source).rglob("*") if path.is_file()]
    return sorted(name for name in files if name not in corpus.BROKEN)


@pytest.fixture
def labels(made: Path) -> dict[str, int]:
    """Return the label of each key that every reader has to find."""
    found = {name: i for i, name in enumerate(names(str(made / "in")))}
    assert len(found) == COUNT
    return found


def is_data_of_spark(path: Path, root: Path) -> bool:
    """Return True where Spark, Hive and pyarrow read a file: no part of its path begins with `_` or a dot."""
    return not any(part.startswith(("_", ".")) for part in path.relative_to(root).parts)


def test_data_frames_read_shards_as_they_stand(made: Path, labels: dict[str, int]) -> None:
    import polars  # here, since its import takes half a second

    shards = f"{made}/parquet/data"
    pattern = f"{shards}/*.parquet"
    by_arrow = pq.read_table(shards, columns=["key", "label"]).to_pylist()
    by_dataset = ds.dataset(shards).to_table(columns=["key", "label"]).to_pylist()
    by_polars = polars.scan_parquet(pattern).select("key", "label").collect().to_dicts()
    by_duckdb = duckdb.sql(f"select key, label from '{pattern}'").fetchall()
    for rows in (by_arrow, by_dataset, by_polars, [dict(zip(("key", "label"), row, strict=True)) for row in by_duckdb]):
        assert len(rows) == COUNT
        assert {row["key"]: row["label"] for row in rows} == labels
    counted = duckdb.sql(f"select label % 2, count(*) from '{pattern}' group by all order by all").fetchall()
    assert counted == [(0, 4), (1, 3)]
    blob = polars.read_parquet(pattern).row(0, named=True)["image"]["bytes"]
    assert Image.open(io.BytesIO(blob)).size == (24, 24)


def test_what_begins_with_an_underscore_is_no_data_to_readers_of_folders(made: Path, labels: dict[str, int]) -> None:
    """Spark, Hive and pyarrow take the whole output: what it keeps for itself has names that they leave out."""
    root = made / "parquet"
    kept = {path for path in root.rglob("*.parquet") if not is_data_of_spark(path, root)}
    assert {path.relative_to(root).parts[0] for path in kept} == {"_quarantine", "_transdomain"}
    left = sorted(path for path in root.rglob("*.parquet") if path not in kept)
    assert left == sorted((root / "data").glob("*.parquet"))
    assert pq.read_schema(left[0]).equals(pq.read_schema(left[-1]))  # Spark takes the columns of one
    found = ds.dataset(str(root), exclude_invalid_files=True).to_table(columns=["key"])["key"].to_pylist()
    assert sorted(found) == sorted(labels)
    marks = [path.name for path in root.iterdir() if path.name == "_SUCCESS"]
    assert marks == ["_SUCCESS"]  # what jobs of Spark and Hive wait for


def test_folders_of_models_are_columns(made: Path, labels: dict[str, int]) -> None:
    """Folders are named in Hive's way, COLUMN=VALUE, of letters that no reader escapes."""
    import polars

    data = made / "models/data"
    assert {path.name for path in data.iterdir()} == {f"translator={name}" for name in MODELS}
    assert all(re.fullmatch(r"[a-z]+=[\w.-]+", path.name) for path in data.iterdir())
    pattern = f"{data}/**/*.parquet"
    expected = sorted((name, f"{name}/{key}") for name in MODELS for key in labels)
    hive = ds.HivePartitioning.discover(infer_dictionary=True)  # as read_table has it
    by_arrow = pq.read_table(data, columns=["translator", "key"]).to_pylist()
    by_polars = polars.scan_parquet(pattern, hive_partitioning=True).select("translator", "key").collect().to_dicts()
    by_duckdb = duckdb.sql(f"select translator, key from read_parquet('{pattern}', hive_partitioning=true)").fetchall()
    for rows in (by_arrow, by_polars):
        assert sorted((row["translator"], row["key"]) for row in rows) == expected
    assert sorted(by_duckdb) == expected
    one = ds.dataset(str(data), partitioning=hive).to_table(filter=ds.field("translator") == "night")
    assert len(one) == COUNT


@pytest.mark.parametrize("form", ["parquet", "one format", "folder"])
def test_datasets_reads_each_form_by_its_card(form: str, made: Path, labels: dict[str, int], tmp_path: Path) -> None:
    """Of tars `datasets` reads those whose pictures have one format, since it takes each ending for a column."""
    loaded = datasets.load_dataset(str(made / form), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == COUNT
    rows: list[dict[str, Any]] = list(loaded["json"]) if form == "one format" else list(loaded)
    assert sorted(row["label"] for row in rows) == sorted(labels.values())
    column = next(name for name, feature in loaded.features.items() if isinstance(feature, datasets.Image))
    pictures = [row[column] for row in loaded if row[column] is not None]
    assert pictures
    assert all(picture.size == (24, 24) for picture in pictures)


def test_members_of_a_tar_come_sample_by_sample_each_in_one_order(made: Path, labels: dict[str, int]) -> None:
    """Readers take files that follow each other for a sample, the picture first, in the order of the keys."""
    seen = list[str]()
    for path in sorted((made / "webdataset/data").glob("*.tar")):
        with tarfile.open(path) as tar:
            files = [member for member in tar.getmembers() if member.isfile()]
            for picture, said in zip(files[::2], files[1::2], strict=True):
                assert picture.name.partition(".")[0] == said.name.partition(".")[0]
                assert picture.name.endswith((".png", ".jpg"))
                row = json.loads(tar.extractfile(said).read())  # type: ignore[union-attr]
                assert row["label"] == labels[row["key"]]
                seen.append(row["key"])
    assert seen == sorted(labels)


@pytest.mark.parametrize(("how", "shape"), [("pil", None), ("rgb8", (24, 24, 3)), ("torchrgb", (3, 24, 24))])
def test_webdataset_decodes_what_is_written(
    how: str, shape: tuple[int, ...] | None, made: Path, labels: dict[str, int]
) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    urls = sorted(map(str, (made / "webdataset/data").glob("*.tar")))
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode(how).to_tuple("png;jpg", "json", "__key__"))
    assert {said["key"]: said["label"] for _, said, _ in samples} == labels
    assert len({key for _, _, key in samples}) == len(samples) == COUNT
    for picture, said, _ in samples:
        expected = images.decode((made / "in" / said["key"]).read_bytes()).pixels
        found = np.asarray(picture)
        assert shape is None or found.shape == shape
        found = found.transpose(1, 2, 0) * 255 if how == "torchrgb" else found
        assert np.abs(found.astype(float) - expected).max() <= 3
