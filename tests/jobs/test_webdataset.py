"""WebDataset tars through the jobs: packed, translated, verified, damaged and mended, and read by other programs."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
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
from tests.tars import tar_of

FACADES = Path(os.environ.get("TRANSDOMAIN_FACADES", Path(__file__).parents[3] / "shared/data/facades"))


def run_pack(source: str, output: str, *options: str) -> int:
    arguments = ["--input", source, "--output", output, "--local", "--limits.rows", "4", "--budget.share", "0.9"]
    return pack.main([*arguments, *options])


def rows_of(url: str) -> list[dict[str, Any]]:
    """Return the rows of a store, by key."""
    store = open_store(url)
    rows = read_rows(store.ranges).drop_columns("_transdomain.shard")
    return sorted(rows.to_pylist(), key=lambda row: row["key"])


def tars(output: str) -> Iterator[tarfile.TarFile]:
    for entry in storage.list_files(storage.join(output, "data"), ".tar"):
        with tarfile.open(fileobj=io.BytesIO(storage.read(entry.url))) as tar:
            yield tar


@pytest.mark.parametrize("store", ["local", pytest.param("s3", marks=pytest.mark.long)])
def test_a_folder_and_its_way_through_tars_and_shards(
    store: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = new_prefix(store, request)
    folder = corpus.write_folder(storage.join(prefix, "in"), 13)
    shards, packed, again = (storage.join(prefix, name) for name in ("shards", "tars", "again"))
    assert run_pack(folder, shards) == 0
    assert run_pack(shards, packed, "--form", "webdataset") == 0
    assert run_pack(packed, again) == 0
    assert rows_of(again) == rows_of(packed) == rows_of(shards)
    assert open_store(again).schema == open_store(shards).schema
    assert verify.main(["--input", packed]) == 0
    assert "13 inputs = 13 ok" in capsys.readouterr().out
    before = corpus.contents(packed)
    assert run_pack(shards, packed, "--form", "webdataset") == 0
    assert corpus.contents(packed) == before
    names = [name for tar in tars(packed) for name in tar.getnames()]
    assert names[:2] == ["even/000%2Ejpg.jpg", "even/000%2Ejpg.json"]
    assert len(names) == 26


@pytest.fixture
def labelled(tmp_path: Path) -> str:
    """Return a store whose columns are of many types."""
    url, count = str(tmp_path / "labelled"), 7
    pictures = [images.encode(corpus.picture(i), images.Encoding(codec="png")) for i in range(count)]
    table = pa.table(
        {
            "image": [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(pictures)],
            "key": [f"a.b/{i}.x.png" for i in range(count)],
            "when": pa.array(range(count), pa.timestamp("ns")),
            "boxes": [[[0.5, i]] for i in range(count)],
            "mask": [{"bytes": data, "path": None} for data in pictures],
            "objects": [{"name": "ä", "odd": [None, float(i)]} for i in range(count)],
            "none": pa.nulls(count, pa.string()),
        }
    )
    storage.replace(f"{url}/0.parquet", _encoded(table))
    return url


def _encoded(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def test_translations_carry_every_column_into_tars(labelled: str, tmp_path: Path) -> None:
    bundle, arguments = corpus.write_bundle(str(tmp_path / "bundle")), ["--input", labelled, "--local"]
    arguments += ["--bundle", bundle, "--limits.rows", "3", "--keep_source"]
    for form in ("parquet", "webdataset"):
        assert translate.main([*arguments, "--output", f"{tmp_path}/{form}", "--form", form]) == 0
    assert rows_of(f"{tmp_path}/webdataset") == rows_of(f"{tmp_path}/parquet")
    assert open_store(f"{tmp_path}/webdataset").schema == open_store(f"{tmp_path}/parquet").schema
    assert verify.main(["--input", f"{tmp_path}/webdataset"]) == 0
    report = (tmp_path / "webdataset/_transdomain/report.html").read_text()
    assert "data:image/webp" in report


def test_datasets_reads_what_was_written(labelled: str, tmp_path: Path) -> None:
    output = str(tmp_path / "tars")
    assert run_pack(labelled, output, "--form", "webdataset") == 0
    by_card = datasets.load_dataset(output, split="train", cache_dir=str(tmp_path / "cache"))
    files = {"train": f"{output}/data/*.tar"}
    by_form = datasets.load_dataset("webdataset", data_files=files, split="train", cache_dir=str(tmp_path / "cache2"))
    for loaded in (by_card, by_form):
        assert [row["key"] for row in loaded["json"]] == [f"a.b/{i}.x.png" for i in range(7)]
        assert loaded[0]["png"].size == (24, 24)


def test_webdataset_itself_reads_what_was_written(labelled: str, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    output = str(tmp_path / "tars")
    assert run_pack(labelled, output, "--form", "webdataset") == 0
    urls = [entry.url for entry in storage.list_files(f"{output}/data")]
    read = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [json.loads(sample["json"])["key"] for sample in read] == [f"a.b/{i}.x.png" for i in range(7)]
    assert all(images.decode(sample["png"]).pixels.shape == (24, 24, 3) for sample in read)


def test_a_unit_without_rows_is_a_tar_without_samples(tmp_path: Path) -> None:
    folder = corpus.write_folder(str(tmp_path / "in"), 3)
    output = str(tmp_path / "out")
    assert run_pack(folder, output, "--form", "webdataset", "--limits.rows", "1") == 0
    assert sorted(len(tar.getnames()) for tar in tars(output)) == [1, 1, 1, 2, 2, 2]
    assert verify.main(["--input", output]) == 0
    assert len(rows_of(output)) == 3
    storage.replace(f"{tmp_path}/in2/0.png", b"")
    for i in range(1, 4):
        storage.replace(f"{tmp_path}/in2/{i}.png", images.encode(corpus.picture(i), images.Encoding(codec="png")))
    first = str(tmp_path / "first")
    assert run_pack(f"{tmp_path}/in2", first, "--form", "webdataset", "--limits.rows", "1") == 0
    loaded = datasets.load_dataset(first, split="train", cache_dir=str(tmp_path / "cache"))
    assert [row["key"] for row in loaded["json"]] == ["1.png", "2.png", "3.png"]
    assert loaded[0]["png"].size == (24, 24)
    assert verify.main(["--input", first]) == 0


def test_a_damaged_member_is_found_and_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, output = corpus.write_folder(str(tmp_path / "in"), 6), str(tmp_path / "out")
    assert run_pack(folder, output, "--form", "webdataset") == 0
    before = corpus.contents(output)
    damaged = tmp_path / "out/data/000000-000001.tar"
    data = bytearray(damaged.read_bytes())
    with tarfile.open(damaged) as tar:
        data[tar.getmembers()[0].offset_data + 20] ^= 1
    damaged.write_bytes(data)
    assert verify.main(["--input", output]) == 1
    assert "data/000000-000001.tar is harmed" in capsys.readouterr().out
    assert verify.main(["--input", output, "--repair"]) == 1
    assert run_pack(folder, output, "--form", "webdataset") == 0
    assert corpus.contents(output) == before
    assert verify.main(["--input", output]) == 0


def test_a_damaged_tar_without_a_commit_is_not_adopted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, output = corpus.write_folder(str(tmp_path / "in"), 3), str(tmp_path / "out")
    assert run_pack(folder, output, "--form", "webdataset") == 0
    left = tmp_path / "out/data/000000-000000.tar"
    data = bytearray(left.read_bytes())
    data[-11_000] ^= 1
    left.write_bytes(data)
    (tmp_path / "out/_transdomain/commits/000000-000000.json").unlink()
    (tmp_path / "out/_SUCCESS").unlink()
    assert verify.main(["--input", output]) == 1
    assert "data/000000-000000.tar is harmed" in capsys.readouterr().out
    assert run_pack(folder, output, "--form", "webdataset") == 1
    assert "000000-000000.tar is damaged" in capsys.readouterr().err


def test_what_img2dataset_made_is_packed_and_translated(tmp_path: Path) -> None:
    for shard in range(2):
        files = []
        for i in range(3):
            key, data = f"{shard:05d}{i:04d}", images.encode(corpus.picture(i), images.Encoding())
            said = {"caption": f"picture {i}", "key": key, "width": 24, "height": 24, "error_message": None}
            files += [(f"{key}.jpg", data), (f"{key}.json", json.dumps(said).encode()), (f"{key}.txt", b"picture")]
        storage.replace(f"{tmp_path}/in/{shard:05d}.tar", tar_of(files))
        storage.replace(f"{tmp_path}/in/{shard:05d}.parquet", _encoded(pa.table({"key": ["x"], "url": ["y"]})))
        storage.replace(f"{tmp_path}/in/{shard:05d}_stats.json", b"{}")
    packed, output = str(tmp_path / "packed"), str(tmp_path / "out")
    assert run_pack(f"{tmp_path}/in", packed) == 0
    assert [(row["key"], row["caption"], row["text"]) for row in corpus.rows(packed)] == [
        (f"{shard:05d}{i:04d}", f"picture {i}", "picture") for shard in range(2) for i in range(3)
    ]
    bundle = corpus.write_bundle(str(tmp_path / "bundle"))
    arguments = ["--input", f"{tmp_path}/in", "--output", output, "--bundle", bundle, "--local"]
    assert translate.main([*arguments, "--limits.rows", "2"]) == 0
    assert [row["caption"] for row in corpus.rows(output)] == [f"picture {i}" for _ in range(2) for i in range(3)]
    assert verify.main(["--input", output]) == 0


@pytest.mark.long
@pytest.mark.skipif(not FACADES.is_dir(), reason=f"no facades in {FACADES} (set TRANSDOMAIN_FACADES to their folder)")
def test_facades_keep_their_bytes_and_columns_through_every_form(tmp_path: Path) -> None:
    stores = [str(tmp_path / name) for name in ("parquet", "tars", "again")]
    options = ["--limits.rows", "64"]
    assert run_pack(f"{FACADES}/val", stores[0], "--layout", "pairs", *options) == 0
    assert run_pack(stores[0], stores[1], "--form", "webdataset", *options) == 0
    assert run_pack(stores[1], stores[2], *options) == 0
    assert rows_of(stores[2]) == rows_of(stores[1]) == rows_of(stores[0])
    assert all(verify.main(["--input", store]) == 0 for store in stores)
