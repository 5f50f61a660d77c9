"""Pairs become two folders of files, which read back as the same pairs: by this project and by others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import pack, verify
from pipeline import failpoints, images, storage
from pipeline.stores.tables.schema import image_array
from tests import corpus
from tests.jobs.test_one_output import end_at
from tests.jobs.test_reading import saved

COUNT = 7


def run(source: str, output: Path | str, *options: str) -> int:
    arguments = ["--input", source, "--output", str(output), "--local", "--limits.rows", "3", "--budget.share", "0.9"]
    return pack.main([*arguments, *options])


def write_pairs(folder: Path) -> str:
    """Write A|B pictures, and two that cannot be cut."""
    folder.mkdir()
    for i in range(COUNT):
        both = np.concatenate([corpus.picture(i), corpus.picture(100 + i)], 1)
        (folder / f"{i}.jpg").write_bytes(saved(both, "PNG"))  # an ending that does not tell the truth
    (folder / "odd.png").write_bytes(saved(corpus.picture(50, 8, 9), "PNG"))
    (folder / "empty.png").write_bytes(b"")
    return str(folder)


def pairs(output: Path | str, *more: str) -> dict[str, Any]:
    rows = corpus.rows(str(output))
    return {
        row["key"]: (row["image_a"]["bytes"], row["image_b"]["bytes"], *(row[name] for name in more)) for row in rows
    }


def back(output: Path, again: Path, *options: str) -> None:
    assert run(str(output / "a"), again, "--layout", "trees", "--input_b", str(output / "b"), *options) == 0


def test_pictures_that_are_cut_become_two_folders_that_read_back_as_trees(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "in")
    assert run(source, tmp_path / "store", "--layout", "pairs") == 0
    assert run(source, tmp_path / "cut", "--layout", "pairs", "--form", "folder") == 0
    assert run(str(tmp_path / "store"), tmp_path / "out", "--form", "folder") == 0
    for made in ("cut", "out"):
        for side in "ab":
            files = sorted(path.name for path in (tmp_path / made / side / "data").iterdir())
            assert files == [*(f"{i}.jpg.png" for i in range(COUNT)), "metadata.parquet"]
            assert verify.main(["--input", str(tmp_path / made / side)]) == 0
        back(tmp_path / made, tmp_path / f"{made}-again")
        assert pairs(tmp_path / f"{made}-again") == pairs(tmp_path / "store")
    for side in "ab":
        aside = corpus.rows_below(str(tmp_path / "cut" / side / "_quarantine"), ["key", "reason"])
        assert {row["key"]: row["reason"] for row in aside} == {"odd.png": "not a pair", "empty.png": "empty"}


@pytest.fixture
def labelled(tmp_path: Path) -> str:
    """Return a store of pairs whose sides have other formats and sizes, with labels and one side that is broken."""
    a = [saved(corpus.picture(i, 20, 30), "JPEG") for i in range(COUNT)]
    b = [saved(corpus.picture(i, 40, 60), "PNG") for i in range(COUNT)]
    b[3] = b[3][:50]
    keys = [f"{i % 2}/{i}.x" for i in range(COUNT)]
    columns = {
        "key": keys,
        "image_a": image_array(a, keys),
        "image_b": image_array(b, keys),
        "label": list(range(COUNT)),
    }
    (tmp_path / "labelled").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "labelled/0.parquet")
    return str(tmp_path / "labelled")


def test_labels_go_with_both_sides_and_a_pair_with_one_bad_side_is_in_neither(labelled: str, tmp_path: Path) -> None:
    assert run(labelled, tmp_path / "store") == 0
    assert run(labelled, tmp_path / "out", "--form", "folder") == 0
    for side, size, ending in (("a", (30, 20), "jpg"), ("b", (60, 40), "png")):
        output = str(tmp_path / "out" / side)
        loaded = datasets.load_dataset(output, split="train", cache_dir=str(tmp_path / f"cache-{side}"))
        assert sorted(loaded["label"]) == [0, 1, 2, 4, 5, 6]
        assert (
            {image.size for image in loaded["image"]}
            == {size}
            == {*zip(loaded["width"], loaded["height"], strict=True)}
        )
        names = {entry.name for entry in storage.list_files(f"{output}/data") if not entry.name.endswith(".parquet")}
        assert names == {f"{i % 2}/{i}.x.{ending}" for i in range(COUNT) if i != 3}
        (bad,) = corpus.rows_below(f"{output}/_quarantine")
        assert (bad["key"], bad["reason"]) == ("1/3.x", "corrupt")
    labels = tmp_path / "labels.csv"
    labels.write_text("key,label\n" + "".join(f"{i % 2}/{i}.x,{i}\n" for i in range(COUNT) if i != 3))
    back(tmp_path / "out", tmp_path / "again", "--labels", str(labels))
    assert pairs(tmp_path / "again", "label") == pairs(tmp_path / "store", "label")


@pytest.mark.parametrize(
    "point", ["after image", *(pytest.param(p, marks=pytest.mark.long) for p in failpoints.POINTS)]
)
def test_killed_the_same_command_gives_the_same_files(
    point: str, labelled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--form", "folder", "--split", "train", "0.7", "test", "0.3")
    assert run(labelled, tmp_path / "whole", *options) == 0
    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "point", end_at(point))
        assert run(labelled, tmp_path / "killed", *options) == 1
    assert run(labelled, tmp_path / "killed", *options) == 0
    for split in ("train", "test"):
        for side in "ab":
            found = corpus.contents(str(tmp_path / "killed" / split / side))
            assert found == corpus.contents(str(tmp_path / "whole" / split / side))


def test_both_sides_are_resized_and_encoded_alike(labelled: str, tmp_path: Path) -> None:
    assert run(labelled, tmp_path / "out", "--form", "folder", "--resize", "10", "--encoding.codec", "webp") == 0
    back(tmp_path / "out", tmp_path / "again")
    for a, b in pairs(tmp_path / "again").values():
        assert images.format_of(a) == images.format_of(b) == "WEBP"
        assert images.size_of(a) == images.size_of(b) == (15, 10)
