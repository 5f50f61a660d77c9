"""`jobs.inspect`: what it counts is what is there, and no image makes it fail."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import inspect, pack
from pipeline import images, storage
from pipeline.inspect.config import InspectConfig
from pipeline.inspect.job import inspect as look_through
from pipeline.inspect.job import open_splits
from tests import corpus
from tests.conftest import new_prefix


@pytest.fixture(params=["local", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("memory", "s3"))])
def any_prefix(request: pytest.FixtureRequest) -> str:
    """Return a prefix that nobody has used, on a local disk; in memory and on S3 among the long tests."""
    return new_prefix(request.param, request)


def png(seed: int, height: int = 24, width: int = 24) -> bytes:
    return images.encode(corpus.picture(seed, height, width), images.Encoding(codec="png"))


def record(prefix: str, *options: str) -> dict[str, Any]:
    """Run the job; return what it writes as JSON."""
    assert inspect.main([*options, "--json", f"{prefix}/found.json"]) == 0
    found: dict[str, Any] = json.loads(storage.read(f"{prefix}/found.json"))
    return found


def test_a_folder_with_bad_images(any_prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = corpus.write_folder(f"{any_prefix}/in", 6)
    storage.replace(f"{folder}/notes.txt", b"x")
    (found,) = record(any_prefix, "--input", folder, "--report", f"{any_prefix}/page.html")["splits"]
    assert (found["images"], found["decoded"], found["form"]) == (9, 9, "image files")
    assert found["formats"] == {"PNG": 4, "JPEG": 3, "not known": 2}
    assert found["channels_and_depth"] == {"RGB of 8 bits": 7, "not known: no image": 2}
    assert {(w, h): n for w, h, n in found["sizes"]} == {(24, 24): 6, (64, 64): 1, (0, 0): 2}
    sizes = sorted(entry.size for entry in storage.list_files(folder) if not entry.name.endswith(".txt"))
    assert found["encoded_bytes"] == {
        "least": 0, "median": sizes[4], "largest": sizes[-1], "total": sum(sizes), "exact": True,
    }  # fmt: skip
    assert found["faults"] == dict.fromkeys(corpus.BROKEN.values(), 1)
    assert {each["key"]: each["reason"] for each in found["examples"]} == corpus.BROKEN
    assert [(each["reason"], each["count"]) for each in found["passed_over"]] == [("files ending in .txt", 1)]
    said = capsys.readouterr().out
    assert max(len(line) for line in said.splitlines()[2:] if not line.startswith("wrote ")) <= 80
    assert all(key in said for key in ("odd/text.jpg", "notes.txt", "not decodable  3 of them"))
    page = storage.read(f"{any_prefix}/page.html").decode()
    assert "data:image/webp;base64," in page
    assert "even/truncated.jpg" in page


def test_a_store_says_nulls_types_and_recorded_sizes(tmp_path: Path) -> None:
    rows = {
        "key": ["a", "b", "c"],
        "image": [{"bytes": png(1), "path": None}, {"bytes": png(2), "path": None}, None],
        "class": [1, None, 3],
        "boxes": [[[1, 2]], [], None],
    }
    pq.write_table(pa.table(rows), tmp_path / "x.parquet")
    (found,) = record(str(tmp_path), "--input", str(tmp_path / "x.parquet"))["splits"]
    columns = {each["name"]: (each["type"], each["nulls"]) for each in found["columns"]}
    assert columns["class"] == ("int64", 1)
    assert columns["image"] == ("image", 1)
    assert columns["boxes"][1] is None
    assert found["faults"] == {"empty": 1}
    assert found["sizes_are"] == "of headers"
    folder = corpus.write_folder(str(tmp_path / "in"), 5, width=30)
    assert pack.main(["--input", folder, "--output", str(tmp_path / "out"), "--local"]) == 0
    (found,) = record(str(tmp_path), "--input", str(tmp_path / "out"))["splits"]
    assert (found["sizes"], found["sizes_are"]) == ([[30, 24, 5]], "recorded")


def test_what_is_drawn_is_said_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = corpus.write_folder(str(tmp_path / "in"), 40)
    options = ("--sample", "20", "--decode", "5")
    for source in (folder, str(tmp_path / "out")):
        (found,) = record(str(tmp_path), "--input", source, *options)["splits"]
        said = capsys.readouterr().out
        assert found["decoded"] == 5
        assert found["headers_read"] == 20
        assert re.search(r"decoded +5 of 4[03], drawn at random; --decode all takes all", said)
        if source == folder:
            assert pack.main(["--input", folder, "--output", str(tmp_path / "out"), "--local"]) == 0
    (found,) = record(str(tmp_path), "--input", folder, "--sample", "3", "--decode", "all")["splits"]
    assert (found["decoded"], sum(found["faults"].values())) == (43, 3)


def test_duplicates_and_leakage_between_stores(tmp_path: Path) -> None:
    for split, seeds in (("train", (1, 2, 2, 3, 2)), ("test", (3, 4))):
        for i, seed in enumerate(seeds):
            storage.replace(f"{tmp_path}/{split}/{split[:2]}{i}.png", png(seed))
    storage.replace(f"{tmp_path}/train/same.png", png(7))
    storage.replace(f"{tmp_path}/test/same.png", png(8))
    found = record(str(tmp_path), "--input", f"{tmp_path}/train", f"{tmp_path}/test", "--duplicates")
    assert [each["name"] for each in found["splits"]] == ["train", "test"]
    duplicates = found["duplicates"]
    assert (duplicates["groups"], duplicates["repeated"]) == (1, 2)
    assert duplicates["between_splits"] == [["train", "test", 1]]
    assert duplicates["examples"] == ["train: tr1.png = train: tr2.png", "train: tr3.png = test: te0.png"]
    keys = found["keys_in_several_splits"]
    assert (keys["between_splits"], keys["examples"]) == ([["train", "test", 1]], ["same.png in train and test"])


def test_splits_below_one_prefix(tmp_path: Path) -> None:
    folder = corpus.write_folder(str(tmp_path / "in"), 12)
    options = [
        "--input",
        folder,
        "--output",
        str(tmp_path / "out"),
        "--local",
        "--split",
        "train",
        "0.5",
        "test",
        "0.5",
    ]
    assert pack.main(options) == 0
    found = record(str(tmp_path), "--input", str(tmp_path / "out"), "--duplicates")
    assert {each["name"]: each["images"] for each in found["splits"]}.keys() == {"train", "test"}
    assert sum(each["images"] for each in found["splits"]) == 12
    assert found["keys_in_several_splits"]["between_splits"] == []


def test_folders_that_are_called_like_splits_are_compared_without_their_name(tmp_path: Path) -> None:
    for name in ("train/a.png", "train/b.png", "val/b.png", "loose.png"):
        storage.replace(f"{tmp_path}/in/{name}", png(len(name)))
    storage.replace(f"{tmp_path}/in/x.txt", b"x")
    found = record(str(tmp_path), "--input", f"{tmp_path}/in", "--duplicates")
    assert {each["name"]: each["images"] for each in found["splits"]} == {"train": 2, "val": 1, "others": 1}
    assert found["keys_in_several_splits"]["examples"] == ["b.png in train and val"]
    assert sum(len(each["passed_over"]) for each in found["splits"]) == 1


def test_an_image_that_is_gone_meanwhile_is_a_finding(tmp_path: Path) -> None:
    folder = corpus.write_folder(str(tmp_path / "in"), 4)
    splits = open_splits([folder])
    Path(folder, "even/000.jpg").unlink()
    found = look_through(splits, InspectConfig(input=(folder,)))
    assert found.splits[0].faults["not readable"] == 1
    assert found.splits[0].looked == 7


@pytest.mark.parametrize(
    ("name", "expected"),
    [("no", "nothing there"), ("empty", "nothing there"), ("text", "no Parquet shard, no WebDataset tar")],
)
def test_what_is_no_store_is_refused(
    tmp_path: Path, name: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text/x.txt").write_text("x")
    assert inspect.main(["--input", str(tmp_path / name)]) == 2
    assert expected in capsys.readouterr().err
