"""Outputs belong to one job and one source, whatever is given to them later, and say so before any work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import pack, translate, verify
from pipeline import failpoints, images, storage
from pipeline.engine.records import layout
from pipeline.errors import UserError
from pipeline.stores import open_store
from tests import corpus


def run_pack(source: object, output: object, *options: str) -> int:
    return pack.main(["--input", str(source), "--output", str(output), "--local", "--limits.rows", "4", *options])


def run_translate(source: object, output: object, bundle: str, *options: str) -> int:
    arguments = ["--input", str(source), "--output", str(output), "--bundle", bundle, "--local", "--limits.rows", "4"]
    return translate.main([*arguments, *options])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return Path(corpus.write_folder(str(tmp_path / "in"), 6))


@pytest.fixture
def packed(source: Path, tmp_path: Path) -> Path:
    assert run_pack(source, tmp_path / "out") == 0
    return tmp_path / "out"


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def snapshot(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}


class TestAnotherInput:
    def test_equal_names_are_not_taken_for_equal_images(
        self, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = corpus.write_folder(str(tmp_path / "other"), 8)
        before = snapshot(packed)
        assert run_pack(other, packed) == 2
        line = last_line(capsys)
        assert f"made from {tmp_path}/in, and the input is {other}" in line
        assert "--moved" in line
        assert snapshot(packed) == before
        assert run_pack(other, packed, "--dry_run") == 2

    def test_a_store_that_has_moved_goes_on(self, packed: Path, source: Path, tmp_path: Path) -> None:
        moved = tmp_path / "moved"
        shutil.copytree(source, moved)
        corpus_picture = images.encode(corpus.picture(77), images.Encoding())
        (moved / "new.jpg").write_bytes(corpus_picture)
        assert run_pack(moved, packed, "--moved") == 0
        assert sorted(row["key"] for row in corpus.rows(str(packed), ["key"]))[-1] == "odd/005.png"
        assert len(corpus.rows(str(packed))) == 7
        # The record has the new place now, and the old versions say nothing of it.
        assert run_pack(moved, packed) == 0
        assert run_pack(source, packed) == 2

    def test_a_moved_store_of_other_files_is_found_by_their_sizes(
        self, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = corpus.write_folder(str(tmp_path / "other"), 6, height=50)
        assert run_pack(other, packed, "--moved") == 2
        assert "inputs have changed since they were planned" in last_line(capsys)

    def test_a_place_without_the_planned_files_is_not_where_the_store_is(
        self, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "few/even").mkdir(parents=True)
        shutil.copy2(tmp_path / "in/even/000.jpg", tmp_path / "few/even/000.jpg")
        assert run_pack(tmp_path / "few", packed, "--moved") == 2
        assert "8 inputs that were planned, such as even/002.png, are not there" in last_line(capsys)

    def test_what_is_planned_is_made_from_the_old_place(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(failpoints, "point", end_at("after data"))
            assert run_pack(source, tmp_path / "out") == 1
        shutil.copytree(source, tmp_path / "moved")
        assert run_pack(tmp_path / "moved", tmp_path / "out", "--moved") == 2
        assert "finish it from the old place" in last_line(capsys)


class TestChangedInputs:
    def test_a_rewritten_input_of_a_finished_output_is_named(
        self, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bundle = corpus.write_bundle(str(tmp_path / "bundle"))
        assert run_translate(source, tmp_path / "out", bundle) == 0
        (source / "even/000.jpg").write_bytes(images.encode(corpus.picture(5, 99, 9), images.Encoding()))
        assert run_translate(source, tmp_path / "out", bundle) == 2
        line = last_line(capsys)
        assert "1 inputs have changed" in line
        assert "even/000.jpg" in line
        assert run_translate(source, tmp_path / "out", bundle, "--on_changed", "set_aside") == 0

    def test_new_inputs_beside_a_changed_one_are_made_and_the_changed_one_is_said(
        self, packed: Path, source: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (source / "even/000.jpg").write_bytes(images.encode(corpus.picture(5, 99, 9), images.Encoding()))
        (source / "new.jpg").write_bytes(images.encode(corpus.picture(6), images.Encoding()))
        assert run_pack(source, packed) == 1
        assert "is finished, but 1 inputs are no longer what it was made of" in last_line(capsys)
        assert len(corpus.rows(str(packed))) == 7


def test_row_groups_and_shards_without_rows_are_planned_once(tmp_path: Path) -> None:
    data = images.encode(corpus.picture(1), images.Encoding())
    rows = pa.table({"key": ["a", "b"], "image": [{"bytes": data, "path": None}] * 2})
    (tmp_path / "in").mkdir()
    with pq.ParquetWriter(tmp_path / "in/0.parquet", rows.schema) as writer:
        writer.write_table(rows)
        writer.write_table(rows.slice(0, 0))
    pq.write_table(rows.slice(0, 0), tmp_path / "in/1.parquet")
    for _ in range(3):
        assert run_pack(tmp_path / "in", tmp_path / "out") == 0
        assert len(list((tmp_path / "out/_transdomain/plan").iterdir())) == 1
        assert (tmp_path / "out/_SUCCESS").exists()


class TestAForeignPrefix:
    @pytest.mark.parametrize("name", ["README.md", "data/alien.parquet", "notes/plan.txt", "_SUCCESS"])
    def test_is_left_as_it_is(
        self, source: Path, any_prefix: str, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output = storage.join(any_prefix, "out")
        storage.replace(storage.join(output, name), b"theirs")
        for options in ((), ("--dry_run",)):
            assert run_pack(source, output, *options) == 2
            line = last_line(capsys)
            assert "is no output of a job" in line
            assert name in line
        assert [entry.name for entry in storage.list_files(output)] == [name]

    def test_what_a_file_manager_leaves_is_in_nobodys_way(self, source: Path, tmp_path: Path) -> None:
        storage.replace(str(tmp_path / "out/.DS_Store"), b"x")
        assert run_pack(source, tmp_path / "out") == 0
        assert verify.main(["--input", str(tmp_path / "out")]) == 0

    @pytest.mark.parametrize("form", ["parquet", "folder"])
    def test_what_is_put_among_the_data_keeps_it_from_being_called_complete(
        self,
        source: Path,
        tmp_path: Path,
        form: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        bundle, output = corpus.write_bundle(str(tmp_path / "bundle")), tmp_path / "out"
        with monkeypatch.context() as patch:
            patch.setattr(failpoints, "point", end_at("after commit"))
            assert run_translate(source, output, bundle, "--form", form) == 1
        alien = output / ("data/alien.parquet" if form == "parquet" else "data/even/alien.jpg")
        storage.replace(str(alien), b"x")
        assert run_translate(source, output, bundle, "--form", form) == 1
        assert f"{alien.relative_to(output)}" in last_line(capsys)
        assert not (output / "_SUCCESS").exists()
        alien.unlink()
        assert run_translate(source, output, bundle, "--form", form) == 0


def end_at(point: str, times: int = 1) -> Callable[[str], None]:
    """Return a failpoint that raises the first `times` that it is reached."""
    left = iter(range(times))

    def end(name: str) -> None:
        if name == point and next(left, None) is not None:
            raise RuntimeError("ended")

    return end


class TestAdoption:
    """Adopt an object that stands where a unit is to publish only where it is of that unit."""

    def crashed(self, source: Path, output: Path, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(failpoints, "point", end_at(point, times=99))
            assert run_pack(source, output) == 1

    @pytest.mark.parametrize("torn", [b"", b"PAR1 torn"])
    def test_a_quarantine_that_is_none(
        self,
        source: Path,
        tmp_path: Path,
        torn: bytes,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        output = tmp_path / "out"
        self.crashed(source, output, "after data", monkeypatch)
        url = str(output / "_quarantine/000000-000000.parquet")
        storage.replace(url, torn)
        assert run_pack(source, output) == 1
        assert url in last_line(capsys)
        assert not (output / "_SUCCESS").exists()
        assert verify.main(["--input", str(output), "--repair", "--no_source"]) == 1
        assert run_pack(source, output) == 0
        assert verify.main(["--input", str(output)]) == 0

    def test_a_quarantine_of_another_account(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run_pack(corpus.write_folder(str(tmp_path / "other"), 1), tmp_path / "stale") == 0
        output = tmp_path / "out"
        self.crashed(source, output, "after data", monkeypatch)
        stale = next((tmp_path / "stale/_quarantine").iterdir())
        storage.replace(str(output / "_quarantine/000000-000000.parquet"), stale.read_bytes())
        assert run_pack(source, output) == 1
        assert "is not the quarantine of unit 000000-000000" in capsys.readouterr().err

    @pytest.mark.parametrize("harm", ["torn", "foreign", "other unit", "other counts"])
    def test_a_commit_that_is_none(
        self,
        source: Path,
        tmp_path: Path,
        harm: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        output = tmp_path / "out"
        self.crashed(source, output, "after commit", monkeypatch)
        url = output / "_transdomain/commits/000000-000000.json"
        record = json.loads(url.read_bytes())
        if harm == "other unit":
            record["unit"] = "000000-000001"
        if harm == "other counts":
            record["counts"] |= {"ok": 0, "skipped": record["counts"]["ok"]}
        harmed = {"torn": url.read_bytes()[:40], "foreign": b'{"job": "theirs"}'}.get(harm) or json.dumps(
            record
        ).encode()
        url.write_bytes(harmed)
        expected = 0 if harm == "other counts" else 1  # only the shard itself contradicts these counts
        assert run_pack(source, output) == expected
        if expected:
            assert str(url) in last_line(capsys)
            assert not (output / "_SUCCESS").exists()
        assert verify.main(["--input", str(output), "--repair"]) == 1
        assert run_pack(source, output) == 0
        assert verify.main(["--input", str(output)]) == 0


class TestTheMark:
    def test_one_that_names_fewer_segments_than_there_are_is_not_believed(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output = tmp_path / "out"
        assert run_pack(source, output) == 0
        mark = (output / "_SUCCESS").read_bytes()
        (source / "new.jpg").write_bytes(images.encode(corpus.picture(6), images.Encoding()))
        with monkeypatch.context() as patch:
            patch.setattr(failpoints, "point", end_at("after plan"))
            assert run_pack(source, output) == 1
        (output / "_SUCCESS").write_bytes(mark)  # a run that is killed just after it wrote its mark leaves it like this
        with pytest.raises(UserError, match="has not finished"):
            open_store(str(output))
        assert verify.main(["--input", str(output)]) == 1
        with monkeypatch.context() as patch:
            patch.setattr(failpoints, "point", end_at("before data"))
            assert run_pack(source, output) == 1
        assert not (output / "_SUCCESS").exists()
        assert run_pack(source, output) == 0
        assert open_store(str(output)).rows == 7

    @pytest.mark.parametrize("mark", [b"", b"{}", b"theirs"])
    def test_a_damaged_one_is_none(self, packed: Path, source: Path, mark: bytes) -> None:
        (packed / "_SUCCESS").write_bytes(mark)
        with pytest.raises(UserError, match="has not finished"):
            open_store(str(packed))
        assert run_pack(source, packed) == 0
        assert open_store(str(packed)).rows == 6


class TestTheBudget:
    def written(self, tmp_path: Path, count: int, data: bytes | None) -> str:
        rows = [{"bytes": data, "path": f"{i}.png"} for i in range(count)]
        table = pa.table({"key": [str(i) for i in range(count)], "image": pa.array(rows, images_type())})
        (tmp_path / "paths").mkdir()
        pq.write_table(table, tmp_path / "paths/0.parquet")
        return str(tmp_path / "paths")

    def test_an_output_without_a_good_image_is_no_success(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run_pack(self.written(tmp_path, 5, b"text"), tmp_path / "out") == 3
        line = last_line(capsys)
        assert "5 of 5 images were quarantined" in line
        assert "not an image" in line  # the reason of one of them

    def test_paths_alone_are_refused_with_what_to_do(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_pack(self.written(tmp_path, 5, None), tmp_path / "out") == 2
        assert "embed" in last_line(capsys)
        assert not (tmp_path / "out").exists()

    def test_it_is_of_the_output_and_not_of_the_run(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        strict = ("--budget.after_rows", "1", "--budget.share", "0.4")
        output = tmp_path / "out"
        for i in range(40):  # bad ones come first, good ones after them
            (source / f"a{i:02d}.jpg").write_bytes(b"no picture")
        assert run_pack(source, output, *strict) == 3
        left = len(list((output / "_transdomain/commits").iterdir()))
        assert run_pack(source, output, *strict) == 3
        # A budget that began anew with each run would have carried on until its own share was exceeded again.
        assert len(list((output / "_transdomain/commits").iterdir())) <= left + 1

    def test_finished_over_its_budget_stays_so(self, source: Path, tmp_path: Path) -> None:
        options = ("--budget.after_rows", "5", "--budget.on_budget", "finish")
        assert run_pack(source, tmp_path / "out", *options) == 3
        assert (tmp_path / "out/_SUCCESS").exists()
        assert run_pack(source, tmp_path / "out", *options) == 3
        assert run_pack(source, tmp_path / "out", *options, "--budget.share", "0.5") == 0


def images_type() -> pa.DataType:
    return pa.struct([("bytes", pa.binary()), ("path", pa.string())])


class TestWhatIsDerived:
    """Derived objects never keep finished work from being called complete."""

    @pytest.mark.parametrize("cell", [None, {"bytes": None, "path": None}, {"bytes": b"broken", "path": None}])
    def test_a_carried_picture_that_cannot_be_shown(self, tmp_path: Path, cell: Any) -> None:
        good = {"bytes": images.encode(corpus.picture(1), images.Encoding()), "path": None}
        table = pa.table(
            {
                "key": ["a", "b"],
                "image": pa.array([good] * 2, images_type()),
                "mask": pa.array([cell, good], images_type()),
            }
        )
        pq.write_table(table, tmp_path / "in.parquet")
        bundle = corpus.write_bundle(str(tmp_path / "bundle"))
        assert run_translate(tmp_path / "in.parquet", tmp_path / "out", bundle) == 0
        assert (tmp_path / "out/_transdomain/report.html").exists()

    def test_a_column_of_any_name(self, tmp_path: Path) -> None:
        good = {"bytes": images.encode(corpus.picture(1), images.Encoding()), "path": None}
        pq.write_table(pa.table({"key": ["a"], "jpg": pa.array([good], images_type())}), tmp_path / "in.parquet")
        assert run_pack(tmp_path / "in.parquet", tmp_path / "out") == 0
        assert (tmp_path / "out/_transdomain/report.html").exists()

    def test_a_report_that_cannot_be_made_is_said(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError("no report")

        monkeypatch.setattr("pipeline.report.cards.output_report", broken)
        assert run_pack(source, tmp_path / "out") == 0
        assert "report.html was not written: ZeroDivisionError: no report" in caplog.text
        assert verify.main(["--input", str(tmp_path / "out")]) == 0


class TestVersions:
    def test_may_change_between_segments_and_not_within(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output = tmp_path / "out"
        with monkeypatch.context() as patch:
            patch.setattr(failpoints, "point", end_at("before data"))
            assert run_pack(source, output) == 1
        with monkeypatch.context() as patch:
            patch.setattr(images, "codec_versions", lambda: {"pillow": "99.0"})
            assert run_pack(source, output) == 2
            assert "finish what is planned with those first" in last_line(capsys)
        assert run_pack(source, output) == 0
        monkeypatch.setattr(images, "codec_versions", lambda: {"pillow": "99.0"})
        assert run_pack(source, output) == 0
        (source / "new.jpg").write_bytes(images.encode(corpus.picture(6), images.Encoding()))
        assert run_pack(source, output) == 0
        segments = layout.load_segments(layout.Output(str(output)))
        assert [segment.recipe["versions"].get("pillow") == "99.0" for segment in segments] == [False, True]
        assert verify.main(["--input", str(output)]) == 0

    def test_threads_are_in_the_record_and_kept(
        self, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bundle, output = corpus.write_bundle(str(tmp_path / "bundle")), tmp_path / "out"
        assert run_translate(source, output, bundle, "--resources.threads", "1") == 0
        assert layout.load_segments(layout.Output(str(output)))[0].recipe["arithmetic"]["threads"] == 1
        assert run_translate(source, output, bundle) == 0
        assert run_translate(source, output, bundle, "--resources.threads", "2") == 2
        assert "arithmetic.threads: 1 there, 2 now" in last_line(capsys)


def test_a_key_of_an_input_that_is_gone_is_not_made_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def write(name: str, keys: list[str]) -> None:
        good = {"bytes": images.encode(corpus.picture(len(name)), images.Encoding()), "path": None}
        (tmp_path / "in").mkdir(exist_ok=True)
        pq.write_table(pa.table({"key": keys, "image": [good] * len(keys)}), tmp_path / f"in/{name}.parquet")

    write("monday", ["k0", "k1"])
    assert run_pack(tmp_path / "in", tmp_path / "out") == 0
    (tmp_path / "in/monday.parquet").unlink()
    write("tuesday", ["k1", "k2"])
    before = snapshot(tmp_path / "out")
    assert run_pack(tmp_path / "in", tmp_path / "out") == 2
    assert "the key 'k1' is in" in last_line(capsys)
    assert snapshot(tmp_path / "out") == before
    write("tuesday", ["k2", "k3"])
    assert run_pack(tmp_path / "in", tmp_path / "out") == 0


def test_another_job_does_not_take_over_an_output_without_its_record(
    packed: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (packed / "_transdomain/job.json").unlink()
    bundle = corpus.write_bundle(str(tmp_path / "bundle"))
    assert run_translate(source, packed, bundle) == 2
    assert "is the output of jobs.pack" in last_line(capsys)
    assert run_pack(source, packed) == 0


def test_an_output_within_an_input_has_to_be_finished(source: Path, tmp_path: Path) -> None:
    assert run_pack(source, tmp_path / "stores", "--split", "train", "0.5", "test", "0.5") == 0
    with pytest.raises(UserError, match="holds several stores"):
        open_store(str(tmp_path / "stores"))
    assert open_store(str(tmp_path / "stores/t*")).rows == 6
    (tmp_path / "stores/test/_SUCCESS").unlink()
    for url in ("stores", "stores/t*", "store*/test"):
        with pytest.raises(UserError, match="has not finished"):
            open_store(str(tmp_path / url))
