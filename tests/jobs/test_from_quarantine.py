"""Quarantined inputs that are run again: each counts once, what is good is added once, and the output stays whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import pack, verify
from pipeline import failpoints, images, storage
from pipeline.engine.records.layout import Output, load_segments
from tests import corpus
from tests.conftest import new_prefix


@pytest.fixture(params=["local", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("memory", "s3"))])
def any_prefix(request: pytest.FixtureRequest) -> str:
    """Return a prefix that nobody has used, on a local disk; in memory and on S3 among the long tests."""
    return new_prefix(request.param, request)


def run(source: str, output: str, *options: str) -> int:
    arguments = ["--input", source, "--output", output, "--local", "--limits.rows", "4", "--budget.on_budget", "finish"]
    return pack.main([*arguments, *options])


def account(output: str) -> dict[str, int]:
    said = json.loads(storage.read(f"{output}/_SUCCESS"))
    return {name: said[name] for name in ("inputs", "ok", "quarantined", "skipped", "segments")}


def png(seed: int) -> bytes:
    return images.encode(corpus.picture(seed), images.Encoding(codec="png"))


@pytest.fixture
def packed(any_prefix: str) -> tuple[str, str]:
    """Return a folder with three bad images, and the store that was packed of it."""
    source, output = corpus.write_folder(f"{any_prefix}/in", 6), f"{any_prefix}/out"
    assert run(source, output) == 0
    assert account(output) == {"inputs": 9, "ok": 6, "quarantined": 3, "skipped": 0, "segments": 1}
    return source, output


def test_what_was_mended_is_added_once_and_each_input_counts_once(packed: tuple[str, str]) -> None:
    source, output = packed
    before = {e.name: e.version for e in storage.list_files(output) if e.name.startswith(("data/", "_quarantine/"))}
    storage.replace(f"{source}/odd/empty.png", png(5))
    assert run(source, output, "--from_quarantine") == 0
    assert account(output) == {"inputs": 9, "ok": 7, "quarantined": 2, "skipped": 0, "segments": 2}
    rows = {row["key"]: row["image"]["bytes"] for row in corpus.rows(output)}
    assert len(rows) == 7
    assert rows["odd/empty.png"] == png(5)
    assert verify.main(["--input", output]) == 0
    report = storage.read(f"{output}/_transdomain/report.html").decode()
    assert "odd/text.jpg" in report
    assert '<td class="key">odd/empty.png' not in report
    after = {e.name: e.version for e in storage.list_files(output)}
    assert {name: after[name] for name in before} == before


def test_the_same_command_again_has_nothing_to_do(packed: tuple[str, str], caplog: pytest.LogCaptureFixture) -> None:
    source, output = packed
    for segments, said in ((2, "3 of 3 quarantined inputs are run again"), (2, "0 of 3 quarantined inputs")):
        caplog.clear()
        assert run(source, output, "--from_quarantine") == 0
        assert said in caplog.text
        assert account(output) == {"inputs": 9, "ok": 6, "quarantined": 3, "skipped": 0, "segments": segments}
    storage.replace(f"{source}/odd/text.jpg", png(4))
    assert run(source, output, "--from_quarantine") == 0
    assert "1 of 3 quarantined inputs are run again; 2 were run again already" in caplog.text
    assert account(output) == {"inputs": 9, "ok": 7, "quarantined": 2, "skipped": 0, "segments": 3}
    assert verify.main(["--input", output]) == 0
    storage.replace(f"{source}/new.png", png(6))
    assert run(source, output) == 0
    assert account(output) == {"inputs": 10, "ok": 8, "quarantined": 2, "skipped": 0, "segments": 4}
    assert verify.main(["--input", output]) == 0


def test_a_plain_run_says_what_to_do_for_a_mended_input(
    packed: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = packed
    storage.replace(f"{source}/odd/text.jpg", png(4))
    assert run(source, output) == 2
    assert "--from_quarantine runs those again that were quarantined" in capsys.readouterr().err


def test_a_dry_run_counts_each_input_once(packed: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    source, output = packed
    assert run(source, output, "--from_quarantine", "--dry_run") == 0
    assert "9 inputs in 4 units" in capsys.readouterr().out
    assert account(output)["segments"] == 1


def test_the_budget_judges_what_is_quarantined_now(packed: tuple[str, str]) -> None:
    source, output = packed
    for name in corpus.BROKEN:
        storage.replace(f"{source}/{name}", png(3))
    assert run(source, output, "--from_quarantine", "--budget.count", "0", "--budget.on_budget", "stop") == 0
    assert account(output) == {"inputs": 9, "ok": 9, "quarantined": 0, "skipped": 0, "segments": 2}
    assert verify.main(["--input", output]) == 0


POINTS = ("before plan", "before data", "after data", "after quarantine", "after commit", "before success")


@pytest.mark.parametrize("goes_on", ["same", pytest.param("plain", marks=pytest.mark.long)])
@pytest.mark.parametrize("point", ["after plan", *(pytest.param(point, marks=pytest.mark.long) for point in POINTS)])
def test_killed_anywhere_it_goes_on(any_prefix: str, monkeypatch: pytest.MonkeyPatch, point: str, goes_on: str) -> None:
    source = corpus.write_folder(f"{any_prefix}/in", 6)
    outputs = [f"{any_prefix}/whole", f"{any_prefix}/killed"]
    for output in outputs:
        assert run(source, output) == 0
    storage.replace(f"{source}/odd/empty.png", png(5))
    assert run(source, outputs[0], "--from_quarantine") == 0

    def die(name: str) -> None:
        if name == point:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "point", die)
        assert run(source, outputs[1], "--from_quarantine") == 130
    is_planned = point != "before plan"
    assert run(source, outputs[1], *(("--from_quarantine",) if goes_on == "same" or not is_planned else ())) == 0
    assert account(outputs[1]) == {"inputs": 9, "ok": 7, "quarantined": 2, "skipped": 0, "segments": 2}
    assert verify.main(["--input", outputs[1]]) == 0
    assert corpus.contents(outputs[1]) == corpus.contents(outputs[0])


@pytest.fixture
def shards(tmp_path: Path) -> str:
    """Return a store of two shards with a bad row in each."""
    (tmp_path / "in").mkdir()
    for number, keys in enumerate(("abcde", "fgh")):
        rows: dict[str, Any] = {
            "key": list(keys),
            "image": [{"bytes": b"bad" if key in "cg" else png(ord(key)), "path": None} for key in keys],
        }
        pq.write_table(pa.table(rows), tmp_path / f"in/{number}.parquet")
    return str(tmp_path / "in")


def test_rows_of_shards_are_planned_alone_and_taken_where_their_shard_has_not_changed(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    output, prove = str(tmp_path / "out"), images.prove_by

    def without_a_format(reading: images.Reading, data: bytes, **options: Any) -> Any:
        """Decode like an earlier version that does not know what b is."""
        if data == png(ord("b")):
            raise images.BadImage("unsupported format", "of an earlier version")
        return prove(reading, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(images, "prove_by", without_a_format)
        assert run(shards, output) == 0
    assert account(output) == {"inputs": 8, "ok": 5, "quarantined": 3, "skipped": 0, "segments": 1}
    assert run(shards, output, "--from_quarantine") == 0
    assert account(output) == {"inputs": 8, "ok": 6, "quarantined": 2, "skipped": 0, "segments": 2}
    assert sorted(row["key"] for row in corpus.rows(output, ["key"])) == list("abdefh")
    assert [segment.rows for segment in load_segments(Output(output))] == [8, 3]
    assert verify.main(["--input", output]) == 0
    caplog.clear()
    assert run(shards, output, "--from_quarantine") == 0
    assert "0 of 2 quarantined inputs are run again; 2 were run again already" in caplog.text


def test_a_split_runs_its_own_rows_again(shards: str, tmp_path: Path) -> None:
    output, options = str(tmp_path / "out"), ("--split", "x", "0.5", "y", "0.5")
    assert run(shards, output, *options) in (0, 3)
    before = {name: account(f"{output}/{name}") for name in "xy"}
    assert run(shards, output, *options, "--from_quarantine") in (0, 3)
    for name in "xy":
        after = account(f"{output}/{name}")
        assert after | {"segments": 0} == before[name] | {"segments": 0}
        assert verify.main(["--input", f"{output}/{name}"]) == 0


def test_nothing_to_run_again_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = corpus.write_folder(str(tmp_path / "in"), 2)
    assert run(source, str(tmp_path / "out"), "--from_quarantine") == 2
    assert "nothing was quarantined yet" in capsys.readouterr().err
