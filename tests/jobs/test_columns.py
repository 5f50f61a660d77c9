"""Columns, keys and names of files through whole jobs, in the plain loop: nothing of a source vanishes on the way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from jobs import augment, pack, translate, verify
from pipeline import images
from pipeline.stores import open_store
from tests import corpus

FEATURES = datasets.Features(
    {
        "key": datasets.Value("string"),
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=["cat", "dog", "owl"]),
        "tags": datasets.Sequence(datasets.ClassLabel(names=["wet", "dry"])),
        "mask": datasets.Image(),
        "boxes": [{"kind": datasets.ClassLabel(names=["car", "bus"]), "at": datasets.Value("float32")}],
    }
)


def picture(seed: int) -> dict[str, Any]:
    return {"bytes": images.encode(corpus.picture(seed), images.Encoding(codec="png")), "path": None}


def labelled(path: Path, start: int, *, good: bool = True, features: datasets.Features = FEATURES) -> None:
    """Write a shard of two rows as `datasets` does."""
    rows = [
        {
            "key": f"{start + i}",
            "image": picture(start + i) if good else {"bytes": b"no image", "path": None},
            "label": 1 - i,
            "tags": [i],
            "mask": picture(i),
            "boxes": [{"kind": 1, "at": 0.5}],
        }
        for i in range(2)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(rows, features=features).to_parquet(path)


def loaded(output: Path, cache: Path) -> datasets.Dataset:
    return datasets.load_dataset(str(output), cache_dir=str(cache))["train"]


def run(job: Any, source: Path, output: Path, *options: str) -> int:
    return job.main(["--input", str(source), "--output", str(output), "--local", "--limits.rows", "2", *options])


def rows_aside(output: Path) -> list[dict[str, Any]]:
    shards = sorted((output / "_quarantine").iterdir())
    return [row for shard in shards for row in pq.read_table(shard).to_pylist()]


def test_names_of_classes_survive_every_job(tmp_path: Path) -> None:
    labelled(tmp_path / "in/0.parquet", 0, good=False)  # the first shard that comes out is empty
    labelled(tmp_path / "in/1.parquet", 2)
    labelled(tmp_path / "in/2.parquet", 4)
    bundle = corpus.write_bundle(str(tmp_path / "bundle"))
    assert run(pack, tmp_path / "in", tmp_path / "packed", "--budget.share", "1") == 0
    assert run(translate, tmp_path / "packed", tmp_path / "out", "--bundle", bundle, "--keep_source") == 0
    for output in ("packed", "out"):
        found = loaded(tmp_path / output, tmp_path / "cache")
        kept = {name: FEATURES[name] for name in ("image", "label", "mask", "boxes")}
        assert {name: found.features[name] for name in kept} == kept
        assert found.features["tags"].feature.names == ["wet", "dry"]
        assert sorted(zip(found["key"], found["label"], strict=True)) == [("2", 1), ("3", 0), ("4", 1), ("5", 0)]
    assert isinstance(found.features["source_image"], datasets.Image)
    assert "width" not in pq.read_schema(next((tmp_path / "out/data").iterdir())).metadata[b"huggingface"].decode()


def test_augmenting_keeps_names_of_classes_and_refuses_to_mix_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled(tmp_path / "a/0.parquet", 0)
    labelled(tmp_path / "b/0.parquet", 2)
    bundle = corpus.write_bundle(str(tmp_path / "bundle"))

    config = tmp_path / "augment.yaml"
    sources = {name: str(tmp_path / name) for name in ("a", "b")}
    wishes = {"sources": sources, "output": str(tmp_path / "out"), "translators": {"night": {"bundle": bundle}}}
    config.write_text(yaml.safe_dump(wishes))
    arguments = ["--config", str(config), "--slot", "2026-01-01", "--local"]
    assert augment.main(arguments) == 0
    found = loaded(tmp_path / "out", tmp_path / "cache")
    assert found.features["label"].names == ["cat", "dog", "owl"]
    assert len(found) == 8
    others = datasets.Features({**FEATURES, "label": datasets.ClassLabel(names=["owl", "cat"])})
    labelled(tmp_path / "b/0.parquet", 2, features=others)
    assert augment.main([*arguments, "--output", str(tmp_path / "other")]) == 2
    assert "its names of classes are not those of a (column label: class 0 is 'owl'" in capsys.readouterr().err


def test_columns_with_the_names_of_ours_are_kept(tmp_path: Path) -> None:
    columns = {"key": ["a", "b"], "image": [picture(0), picture(1)]}
    mine = {"_pixels": [1, 2], "_height": ["x", "y"], "_width": [0.5, 1.5]}
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table(columns | mine | {"source_shard": ["p", "q"]}), tmp_path / "in/0.parquet")
    bundle = corpus.write_bundle(str(tmp_path / "bundle"))
    assert run(pack, tmp_path / "in", tmp_path / "packed") == 0
    rows = corpus.rows(str(tmp_path / "packed"))
    assert [row["source_shard"] for row in rows] == ["p", "q"]
    pq.write_table(pa.table(columns | mine), tmp_path / "in/0.parquet")
    assert run(translate, tmp_path / "in", tmp_path / "out", "--bundle", bundle) == 0
    translated = corpus.rows(str(tmp_path / "out"))
    assert [row["source_shard"] for row in translated] == ["0.parquet"] * 2
    for name, values in mine.items():
        assert [row[name] for row in rows] == [row[name] for row in translated] == values
    assert not [name for name in rows[0].keys() | translated[0].keys() if name.startswith("_transdomain")]


def test_columns_of_folders_names_are_columns_of_the_output(tmp_path: Path) -> None:
    for split in ("a", "b"):
        path = tmp_path / f"in/split={split}/cls=cat/0.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"image": [picture(ord(split))]}), path)
    assert run(pack, tmp_path / "in", tmp_path / "out") == 0
    assert [(row["split"], row["cls"]) for row in corpus.rows(str(tmp_path / "out"))] == [("a", "cat"), ("b", "cat")]
    assert verify.main(["--input", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize("split", [[], ["--split", "train", "0.5", "test", "0.5"]])
def test_rows_without_a_key_are_named_by_number_and_numbers_are_keys(tmp_path: Path, split: list[str]) -> None:
    keys = {"numbers": pa.array([1, 2, 3, 4]), "nulls": pa.array(["a", None, "c", None])}
    bundle = corpus.write_bundle(str(tmp_path / "bundle"))
    for name, key in keys.items():
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"key": key, "image": [picture(i) for i in range(4)]}), tmp_path / f"{name}/0.parquet")
        jobs = [(pack, split)] if split else [(pack, []), (translate, ["--bundle", bundle])]
        for job, options in jobs:
            output = tmp_path / f"{name}-{job.__name__}"
            assert run(job, tmp_path / name, output, "--budget.share", "1", *options) == 0
            parts = [output / "train", output / "test"] if split else [output]
            rows = [row for part in parts for row in corpus.rows(str(part))]
            assert {row["key"] for row in rows} == {
                f"0.parquet#{i:09d}" if k is None else str(k) for i, k in enumerate(key.to_pylist())
            }
            assert [verify.main(["--input", str(part)]) for part in parts] == [0] * len(parts)


def test_files_have_names_that_their_readers_show(tmp_path: Path) -> None:
    keys = ["_DSC1.JPG", ".a/b", "__c/d", "%2Ea/b", "e" * 252, "/".join(["f" * 200] * 25), "g"]
    pictures = [picture(i) for i in range(len(keys))]
    pq.write_table(pa.table({"key": keys, "image": pictures}), tmp_path / "in.parquet")
    bundle = corpus.write_bundle(str(tmp_path / "bundle"))
    options = ["--bundle", bundle, "--form", "folder", "--encoding.codec", "png", "--limits.rows", "8"]
    assert run(translate, tmp_path / "in.parquet", tmp_path / "out", *options, "--budget.share", "1") == 0
    expected = ["%252Ea/b.png", "%2Ea/b.png", "%5F_c/d.png", "_DSC1.JPG.png", "g.png"]
    assert [piece.shard for piece in open_store(str(tmp_path / "out")).ranges] == expected
    seen = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out/data"), cache_dir=str(tmp_path / "cache"))
    assert len(seen["train"]) == len(expected)
    assert sorted((row["key"][:1], row["reason"]) for row in rows_aside(tmp_path / "out")) == [
        ("e", "unsupported name"), ("f", "unsupported name"),
    ]  # fmt: skip
    (verdict,) = (tmp_path / "out/_transdomain/verdicts").iterdir()
    names = {row["key"]: row["file_name"] for row in pq.read_table(verdict).to_pylist()}
    assert names[".a/b"] == "%2Ea/b.png"


def test_names_that_are_no_text_and_links_go_through_a_job(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i, name in enumerate((b"caf\xe9.png", b"plain.png")):
        with open(os.fsencode(tmp_path) + b"/in/" + name, "wb") as file:
            file.write(picture(i)["bytes"])
    os.symlink("plain.png", tmp_path / "in/link.png")
    for form in ("parquet", "folder"):
        bundle = corpus.write_bundle(str(tmp_path / "bundle"))
        assert run(translate, tmp_path / "in", tmp_path / form, "--bundle", bundle, "--form", form) == 0
        assert verify.main(["--input", str(tmp_path / form)]) == 0
    assert {row["key"] for row in corpus.rows(str(tmp_path / "parquet"))} == {r"caf\xe9.png", "plain.png", "link.png"}
    made = (tmp_path / "folder/data" / r"caf\xe9.png.jpg").read_bytes()
    assert images.decode(made).pixels.shape == (24, 24, 3)
