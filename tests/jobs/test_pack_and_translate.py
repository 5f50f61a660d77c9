"""Tests of pack and translate through their command lines, in the plain loop: outputs and messages."""

from __future__ import annotations

import io
import json
from pathlib import Path

import datasets
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from jobs import pack, translate, verify
from pipeline import errors, failpoints, images, storage
from pipeline.engine import segments
from pipeline.engine.records.limits import Limits
from pipeline.pack.job import pack_jobs
from tests import corpus

# What these show is the job's own and no store's; packing, translating, resuming and reading run on S3 in this module.
S3_IS_LONG = pytest.mark.parametrize(
    "any_prefix",
    ["local", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("s3", "memory", "gs"))],
    indirect=True,
)


@pytest.fixture
def folder(any_prefix: str) -> str:
    return corpus.write_folder(storage.join(any_prefix, "in"), 13)


def run_pack(source: str, output: str, *options: str) -> int:
    return pack.main(["--input", source, "--output", output, "--local", "--limits.rows", "4", *options])


def run_translate(source: str, output: str, bundle: str, *options: str) -> int:
    arguments = ["--input", source, "--output", output, "--bundle", bundle, "--local", "--limits.rows", "4"]
    return translate.main([*arguments, *options])


def test_pack_keeps_every_byte_and_sets_bad_images_aside(folder: str, any_prefix: str) -> None:
    output = storage.join(any_prefix, "out")
    assert run_pack(folder, output) == 0
    packed = {row["key"]: row for row in corpus.rows(output)}
    sources = {e.name: storage.read(e.url) for e in storage.list_files(folder)}
    assert {key: row["image"]["bytes"] for key, row in packed.items()} == {
        name: data for name, data in sources.items() if name not in corpus.BROKEN
    }
    assert all((row["width"], row["height"]) == (24, 24) for row in packed.values())
    quarantine = [
        row
        for entry in storage.list_files(storage.join(output, "_quarantine"))
        for row in ds_rows(storage.read(entry.url))
    ]
    assert {row["key"]: row["reason"] for row in quarantine} == corpus.BROKEN
    report = storage.read(storage.join(output, "_transdomain/report.html")).decode()
    assert all(key in report for key in corpus.BROKEN)
    success = json.loads(storage.read(storage.join(output, "_SUCCESS")))
    assert (success["inputs"], success["ok"], success["quarantined"]) == (16, 13, 3)


def ds_rows(data: bytes) -> list[dict[str, object]]:
    return pq.read_table(io.BytesIO(data)).to_pylist()


@S3_IS_LONG
def test_splits_are_disjoint_whole_and_stable(folder: str, any_prefix: str) -> None:
    output = storage.join(any_prefix, "out")
    assert run_pack(folder, output, "--split", "train", "0.7", "test", "0.3") == 0
    train, test = ({r["key"] for r in corpus.rows(storage.join(output, s))} for s in ("train", "test"))
    assert train
    assert test
    assert not train & test
    assert len(train | test) == 13
    assert run_pack(folder, storage.join(any_prefix, "again"), "--split", "train", "0.7", "test", "0.3") == 0
    assert train == {r["key"] for r in corpus.rows(storage.join(any_prefix, "again/train"))}


@S3_IS_LONG
def test_pairs_are_cut_in_the_middle(any_prefix: str) -> None:
    pair = np.concatenate([corpus.picture(1), corpus.picture(2)], axis=1)
    source = storage.join(any_prefix, "pairs")
    storage.replace(f"{source}/x.png", images.encode(pair, images.Encoding(codec="png")))
    odd = images.encode(corpus.picture(3, 8, 7), images.Encoding(codec="png"))
    storage.replace(f"{source}/odd.png", odd)
    output = storage.join(any_prefix, "out")
    assert run_pack(source, output, "--layout", "pairs") == 0
    (row,) = corpus.rows(output)
    assert np.array_equal(images.decode(row["image_a"]["bytes"]).pixels, corpus.picture(1))
    assert np.array_equal(images.decode(row["image_b"]["bytes"]).pixels, corpus.picture(2))
    assert (row["key"], row["width"], row["height"]) == ("x.png", 24, 24)


@S3_IS_LONG
def test_unpaired_domains_become_two_stores(any_prefix: str) -> None:
    a = corpus.write_folder(storage.join(any_prefix, "a"), 3)
    b = corpus.write_folder(storage.join(any_prefix, "b"), 5)
    output = storage.join(any_prefix, "out")
    assert run_pack(a, output, "--layout", "unpaired", "--input_b", b) == 0
    assert [len(corpus.rows(storage.join(output, domain))) for domain in "ab"] == [3, 5]


def test_packing_again_does_nothing_and_new_inputs_are_a_further_segment(folder: str, any_prefix: str) -> None:
    output = storage.join(any_prefix, "out")
    assert run_pack(folder, output) == 0
    before = {e.name: e.version for e in storage.list_files(output)}
    assert run_pack(folder, output) == 0
    assert {e.name: e.version for e in storage.list_files(output)} == before
    storage.replace(f"{folder}/new.png", images.encode(corpus.picture(77), images.Encoding(codec="png")))
    assert run_pack(folder, output) == 0
    assert len(corpus.rows(output)) == 14
    shards = {e.name: e.version for e in storage.list_files(storage.join(output, "data"))}
    assert {f"data/{name}": version for name, version in shards.items() if not name.startswith("000001")} == {
        name: version for name, version in before.items() if name.startswith("data/")
    }
    assert json.loads(storage.read(storage.join(output, "_SUCCESS")))["segments"] == 2


def test_translate_gives_each_image_once_with_its_columns(folder: str, any_prefix: str) -> None:
    store, output = storage.join(any_prefix, "store"), storage.join(any_prefix, "out")
    assert run_pack(folder, store) == 0
    bundle = corpus.write_bundle(storage.join(any_prefix, "bundle"))
    assert run_translate(store, output, bundle, "--keep_source") == 0
    packed = {row["key"]: row for row in corpus.rows(store)}
    translated = {row["key"]: row for row in corpus.rows(output)}
    assert packed.keys() == translated.keys()
    for key, row in translated.items():
        assert row["source_image"]["bytes"] == packed[key]["image"]["bytes"]
        assert images.decode(row["image"]["bytes"]).pixels.shape == (24, 24, 3)
        assert (row["source_key"], row["source_width"], row["exif_orientation"]) == (key, 24, 1)
    assert len({row["image"]["bytes"] for row in translated.values()}) == 13


def test_a_folder_of_translations(folder: str, any_prefix: str) -> None:
    bundle = corpus.write_bundle(storage.join(any_prefix, "bundle"))
    output = storage.join(any_prefix, "out")
    assert run_translate(folder, output, bundle, "--form", "folder", "--encoding.codec", "png") == 0
    names = {e.name for e in storage.list_files(storage.join(output, "data"))}
    made = {f"{e.name}.png" for e in storage.list_files(folder) if e.name not in corpus.BROKEN}
    assert names == made | {"metadata.parquet"}
    assert run_pack(output, storage.join(any_prefix, "packed")) == 0
    assert len(corpus.rows(storage.join(any_prefix, "packed"))) == 13


@S3_IS_LONG
@pytest.mark.parametrize("size", ["native", "training", "original"])
def test_size_policies(any_prefix: str, size: str) -> None:
    source = storage.join(any_prefix, "in")
    for i, (height, width) in enumerate([(17, 30), (24, 24), (50, 9)]):
        data = images.encode(corpus.picture(i, height, width), images.Encoding(codec="png"))
        storage.replace(f"{source}/{i}.png", data)
    bundle, output = corpus.write_bundle(storage.join(any_prefix, "bundle")), storage.join(any_prefix, "out")
    assert run_translate(source, output, bundle, "--size", size) == 0
    sizes = [(row["height"], row["width"]) for row in corpus.rows(output)]
    assert sizes == ([(24, 24)] * 3 if size == "training" else [(17, 30), (24, 24), (50, 9)])


@S3_IS_LONG
def test_the_result_does_not_depend_on_the_cut(folder: str, any_prefix: str) -> None:
    bundle = corpus.write_bundle(storage.join(any_prefix, "bundle"))
    results = []
    for rows in ("1", "7"):
        output = storage.join(any_prefix, f"out{rows}")
        assert run_translate(folder, output, bundle, "--batch", "4", "--limits.rows", rows) == 0
        results.append({row["key"]: row["image"]["bytes"] for row in corpus.rows(output)})
    assert results[0] == results[1]


def test_every_other_column_rides_along_wherever_it_stands(tmp_path: Path) -> None:
    picture = {"bytes": images.encode(corpus.picture(1), images.Encoding()), "path": None}
    labels = {"before": [1, 2], "image": [picture] * 2, "after": ["x", "y"], "boxes": [[[0, 0, 9, 9]], []]}
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table(labels), tmp_path / "in/shard.parquet")
    bundle, output = corpus.write_bundle(str(tmp_path / "bundle")), str(tmp_path / "out")
    assert run_translate(str(tmp_path / "in"), output, bundle) == 0
    rows = corpus.rows(output)
    for name in ("before", "after", "boxes"):
        assert [row[name] for row in rows] == labels[name]
    assert verify.main(["--input", output]) == 0  # though its source names no keys


def test_public_readers_see_each_image_once(tmp_path: Path) -> None:
    folder = corpus.write_folder(str(tmp_path / "in"), 13)
    bundle, output = corpus.write_bundle(str(tmp_path / "bundle")), str(tmp_path / "out")
    # one unit holds nothing but bad images, so that one shard is empty
    assert run_translate(folder, output, bundle, "--limits.rows", "1") == 0
    assert ds.dataset(f"{output}/data").count_rows() == 13
    assert duckdb.sql(f"select count(distinct key) from '{output}/data/*.parquet'").fetchall() == [(13,)]
    loaded = datasets.load_dataset(output, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(set(loaded["key"])) == 13
    assert loaded[0]["image"].size == (24, 24)


class TestBadInput:
    """Bad input ends with one clear line, and exit code 2 where it is found before the work."""

    @pytest.fixture
    def bundle(self, tmp_path: Path) -> str:
        return corpus.write_bundle(str(tmp_path / "bundle"))

    def check(self, code: int, capsys: pytest.CaptureFixture[str], expected: str) -> None:
        lines = capsys.readouterr().err.strip().splitlines()
        assert code == 2
        assert len(lines) == 1
        assert expected in lines[0]

    def test_missing_path(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.check(run_pack(str(tmp_path / "no"), str(tmp_path / "out")), capsys, "nothing there")

    @pytest.mark.parametrize(
        ("output", "expected"),
        [
            ("nosuch://x/y", "no filesystem for this URL"),
            ("http://127.0.0.1:9/out", "no exclusive create"),
            ("FILE/out", "cannot be written"),
        ],
    )
    def test_unusable_output(
        self, tmp_path: Path, output: str, expected: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source = corpus.write_folder(str(tmp_path / "in"), 1)
        (tmp_path / "file").write_text("x")
        self.check(run_pack(source, output.replace("FILE", str(tmp_path / "file"))), capsys, expected)

    def test_a_server_that_does_not_answer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def unreachable(url: str, **_: object) -> storage.Listing:
            raise errors.StorageError(f"{url}: ConnectionRefusedError (tried 6 times)")

        monkeypatch.setattr(storage, "list_inputs", unreachable)
        self.check(run_pack("s3://bucket/in", str(tmp_path / "out")), capsys, "ConnectionRefusedError")

    def test_empty_folder(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "empty").mkdir()
        self.check(run_pack(str(tmp_path / "empty"), str(tmp_path / "out")), capsys, "nothing there")

    def test_folder_without_images(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in/notes.txt").write_text("x")
        self.check(
            run_pack(str(tmp_path / "in"), str(tmp_path / "out")),
            capsys,
            "no Parquet shard, no WebDataset tar, no data set of save_to_disk and no image",
        )

    def test_no_bundle(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source = corpus.write_folder(str(tmp_path / "in"), 1)
        code = run_translate(source, str(tmp_path / "out"), str(tmp_path / "nothing"))
        self.check(code, capsys, "no model bundle there")

    def test_missing_column(self, tmp_path: Path, bundle: str, capsys: pytest.CaptureFixture[str]) -> None:
        source = corpus.write_folder(str(tmp_path / "in"), 1)
        code = run_translate(source, str(tmp_path / "out"), bundle, "--input_column", "image_a")
        self.check(code, capsys, "no image column image_a")

    def test_bundle_that_does_not_fit(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source = corpus.write_folder(str(tmp_path / "in"), 1)
        grey = corpus.write_bundle(str(tmp_path / "grey"), in_channels=1)
        self.check(
            run_translate(source, str(tmp_path / "out"), grey),
            capsys,
            "its first images are RGB of 8 bits, and the model takes grey of 8 bits",
        )

    def test_other_settings_on_one_output(
        self, tmp_path: Path, bundle: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source = corpus.write_folder(str(tmp_path / "in"), 2)
        assert run_translate(source, str(tmp_path / "out"), bundle) == 0
        capsys.readouterr()
        code = run_translate(source, str(tmp_path / "out"), bundle, "--encoding.quality", "80")
        self.check(code, capsys, "encoding.quality: 95 there, 80 now")

    def test_output_of_another_job(self, tmp_path: Path, bundle: str, capsys: pytest.CaptureFixture[str]) -> None:
        source = corpus.write_folder(str(tmp_path / "in"), 2)
        assert run_pack(source, str(tmp_path / "out")) == 0
        capsys.readouterr()
        self.check(run_translate(source, str(tmp_path / "out"), bundle), capsys, "is the output of jobs.pack")

    def test_unknown_option(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.check(pack.main(["--input", "x", "--output", "y", "--laoyut", "pairs"]), capsys, "did you mean --layout?")

    def test_unknown_key(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "c.yaml"
        file.write_text("input: x\nlimits: {row: 3}\n")
        code = pack.main(["--config", str(file), "--output", "y"])
        self.check(code, capsys, "unknown key limits.row; did you mean rows?")

    def test_split_that_does_not_add_up(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code = pack.main(["--input", "x", "--output", "y", "--split", "train", "0.8"])
        self.check(code, capsys, "add up to 0.8, not to 1")

    def test_an_unfinished_store(self, tmp_path: Path, bundle: str, capsys: pytest.CaptureFixture[str]) -> None:
        source = corpus.write_folder(str(tmp_path / "in"), 2)
        assert run_pack(source, str(tmp_path / "store")) == 0
        (tmp_path / "store/_SUCCESS").unlink()
        capsys.readouterr()
        code = run_translate(str(tmp_path / "store"), str(tmp_path / "out"), bundle)
        self.check(code, capsys, "has not finished")


def test_the_error_budget_stops_the_job_and_can_be_raised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = corpus.write_folder(str(tmp_path / "in"), 13)
    strict = ("--budget.after_rows", "5", "--limits.rows", "1")
    assert run_pack(source, str(tmp_path / "out"), *strict) == 3
    assert "look at" in capsys.readouterr().err
    assert not (tmp_path / "out/_SUCCESS").exists()
    assert run_pack(source, str(tmp_path / "out"), *strict, "--budget.share", "0.9") == 0
    assert run_pack(source, str(tmp_path / "out2"), *strict, "--budget.on_budget", "finish") == 3
    assert (tmp_path / "out2/_SUCCESS").exists()


def test_a_changed_source_fails_its_unit_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = corpus.write_folder(str(tmp_path / "in"), 6)
    config = pack.PackConfig(input=source, output=str(tmp_path / "out"), limits=Limits(rows=4))
    (job,) = pack_jobs(config)
    segments.plan_new_inputs(job.output, job.request)
    (tmp_path / "in/even/000.jpg").write_bytes(images.encode(corpus.picture(5, 99, 9), images.Encoding()))
    assert run_pack(source, str(tmp_path / "out")) == 1
    assert "has changed since it was planned" in capsys.readouterr().err
    assert len(list((tmp_path / "out/_transdomain/commits").iterdir())) == 2


def test_a_file_that_is_gone_after_its_verdict_is_as_it_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = corpus.write_folder(str(tmp_path / "in"), 4)
    bundle = corpus.write_bundle(str(tmp_path / "bundle"))
    # All are in one unit, since several would come in a drawn order.
    options = ["--form", "folder", "--limits.rows", "8", "--on_changed", "set_aside"]
    ends = iter([False, False, True])

    def end(name: str) -> None:
        if name == "after image" and next(ends, False):
            raise RuntimeError("ended")

    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "point", end)
        assert run_translate(source, str(tmp_path / "out"), bundle, *options) == 1
    made = tmp_path / "out/data"
    published = sorted(str(path.relative_to(made))[:-4] for path in made.rglob("*.jpg"))
    assert len(published) == 3
    (tmp_path / "in" / published[0]).unlink()
    assert run_translate(source, str(tmp_path / "out"), bundle, *options) == 0
    assert len(list(made.rglob("*.jpg"))) == 4


def test_a_key_that_is_no_path_costs_a_row_of_a_folder(tmp_path: Path) -> None:
    picture = {"bytes": images.encode(corpus.picture(1), images.Encoding()), "path": None}
    pq.write_table(pa.table({"key": ["a", "../b", "c//d", "e" * 252], "image": [picture] * 4}), tmp_path / "in.parquet")
    bundle = corpus.write_bundle(str(tmp_path / "bundle"))
    assert run_translate(str(tmp_path / "in.parquet"), str(tmp_path / "out"), bundle, "--form", "folder") == 0
    assert [p.name for p in (tmp_path / "out/data").glob("*.jpg")] == ["a.jpg"]
    (aside,) = (tmp_path / "out/_quarantine").iterdir()
    assert {row["key"]: row["reason"] for row in ds_rows(aside.read_bytes())} == {
        "../b": "unsupported name", "c//d": "unsupported name", "e" * 252: "unsupported name"
    }  # fmt: skip
    assert verify.main(["--input", str(tmp_path / "out")]) == 0


def test_a_dry_run_touches_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = corpus.write_folder(str(tmp_path / "in"), 6)
    assert run_pack(source, str(tmp_path / "out"), "--dry_run") == 0
    assert "9 inputs in 3 units" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_keys_that_occur_twice_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = images.encode(corpus.picture(1), images.Encoding())
    for name in ("x", "y"):
        (tmp_path / "in").mkdir(exist_ok=True)
        pq.write_table(
            pa.table({"key": ["one", name], "image": [{"bytes": data, "path": None}] * 2}),
            tmp_path / f"in/{name}.parquet",
        )
    for options in ((), ("--dry_run",)):
        assert run_pack(str(tmp_path / "in"), str(tmp_path / "out"), *options) == 2
        assert "the key 'one' occurs in" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
