"""Reading from the Hugging Face hub, from a stand-in on loopback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.errors import StorageError, UserError
from pipeline.storage import retry
from pipeline.storage.retry import Fault, Patience
from pipeline.stores import open_store, read_rows
from tests import corpus, hub

DATASET = f"hf://{hub.DATASET}"


class Faults:
    """Statuses to answer the next requests with, of one method; -1 answers nothing."""

    def __init__(self) -> None:
        self.method, self.statuses, self.seen = "GET", list[int](), list[str]()

    def __call__(self, method: str, path: str) -> int:
        self.seen.append(method)
        return self.statuses.pop() if self.statuses and method == self.method else 0


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def folder(tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Serve a folder of files small and large."""
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)
    held = tmp_path / "held"
    (held / "a/b c").mkdir(parents=True)
    for i in range(5):
        (held / f"a/{i}.jpg").write_bytes(b"x" * i)
    (held / "a/b c/é#%.jpg").write_bytes(b"small")
    (held / "large.bin").write_bytes(os.urandom(2 * hub.LARGE))
    with hub.serving(held, faults) as (endpoint, _):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setenv("HF_TOKEN", "hf_of_the_tests")  # the stand-in lets no token go to where large files are
        yield held


@pytest.mark.parametrize("where", ["", "@main", "@refs/convert/parquet", "@refs%2Fconvert%2Fparquet", "/a"])
def test_files_are_listed_looked_up_and_read(folder: Path, where: str) -> None:
    below = folder / "a" if where == "/a" else folder
    expected = sorted(str(path.relative_to(below)) for path in below.rglob("*") if path.is_file())
    listed = storage.list_files(f"{DATASET}{where}")
    assert [entry.name for entry in listed] == expected
    for entry in listed:
        data = (below / entry.name).read_bytes()
        assert storage.read(entry.url, size=entry.size, version=entry.version) == data
        assert storage.stat_file(entry.url) == entry._replace(name=entry.name.rpartition("/")[2])
        with storage.open_read(entry.url, entry) as file:
            file.seek(1)
            assert (file.read(2), file.read()) == (data[1:3], data[3:])


def test_what_is_not_there_is_said(folder: Path) -> None:
    assert storage.stat_file(f"{DATASET}/nothing") is None
    assert storage.stat_file(f"{DATASET}/a") is None
    assert not storage.list_files(f"{DATASET}/nothing")
    with pytest.raises(FileNotFoundError, match=rf"{DATASET}/nothing: no such file"):
        storage.read(f"{DATASET}/nothing")
    with pytest.raises(StorageError, match=r"hf://datasets/no/body: 404 RepoNotFound: no such.*HF_TOKEN"):
        storage.list_files("hf://datasets/no/body")
    for url in ("hf://datasets/short", "hf://buckets/a/b/c"):
        with pytest.raises(UserError, match=rf"{url}: it names no repository: hf://datasets/OWNER/NAME/PATH"):
            storage.list_files(url)


@pytest.mark.parametrize("name", ["a/4.jpg", "large.bin"])
def test_a_file_that_is_replaced_while_it_is_read_is_said(folder: Path, name: str) -> None:
    entry = storage.stat_file(f"{DATASET}/{name}")
    assert entry
    (folder / name).write_bytes(os.urandom(entry.size))
    with pytest.raises(StorageError, match="changed while it was read"):
        storage.read(entry.url, version=entry.version)
    with storage.open_read(entry.url, entry) as file, pytest.raises(StorageError, match="changed while it was read"):
        file.read(2)


@pytest.mark.parametrize("status", [429, 503, -1])
@pytest.mark.parametrize("name", ["a/4.jpg", "large.bin"])
def test_a_fault_is_met_by_one_more_request(folder: Path, faults: Faults, name: str, status: int) -> None:
    faults.statuses = [status]
    assert storage.read(f"{DATASET}/{name}") == (folder / name).read_bytes()
    assert faults.seen == ["GET"] * (2 if name == "a/4.jpg" else 3)


def test_a_lasting_fault_ends_with_the_truth_about_the_attempts(
    folder: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "PATIENCE", dict.fromkeys(Fault, Patience(3, 9)))
    faults.statuses = [503] * 9
    with pytest.raises(StorageError, match=rf"{DATASET}/a/4.jpg: 503: .*\(tried 3 times"):
        storage.read(f"{DATASET}/a/4.jpg")
    assert len(faults.seen) == 3


def test_a_store_on_the_hub_is_read_like_any_other(folder: Path) -> None:
    corpus.write_folder(str(folder / "images"), 5)
    here, there = open_store(str(folder / "images")), open_store(f"{DATASET}/images")
    assert read_rows(there.ranges)["image"].to_pylist() == read_rows(here.ranges)["image"].to_pylist()


def test_nothing_is_written_there(folder: Path) -> None:
    with pytest.raises(UserError, match=r"no exclusive create .*S3 \(s3://BUCKET/PREFIX\), Google Cloud Storage"):
        storage.check_output(DATASET)
    with pytest.raises(StorageError, match="this store is only read"):
        storage.create(f"{DATASET}/x", b"1")


def test_without_huggingface_hub_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")  # another client than the others have
    with pytest.raises(
        UserError, match=r"hf://a/b/x: huggingface_hub is not installed: pip install 'transdomain\[hub\]'"
    ):
        storage.read("hf://a/b/x")
