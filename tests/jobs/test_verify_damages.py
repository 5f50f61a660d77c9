"""Damage of every kind to an output is found, named, and mended as far as possible; sound objects are not touched."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from jobs import pack, translate, verify
from pipeline import images
from pipeline.verify.job import verify as look
from tests import corpus

COMMIT = "_transdomain/commits/000000-000001.json"


def edit(**changes: object) -> Callable[[Path], None]:
    """Return a harm that changes fields of a JSON file."""

    def harm(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes, indent=1, sort_keys=True))

    return harm


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove(path: Path) -> None:
    path.unlink()


def put(data: bytes = b"x") -> Callable[[Path], None]:
    def harm(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return harm


def swap(path: Path) -> None:
    other = path.with_name(path.name.replace("000001.", "000002."))
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)


def resize_commit(path: Path) -> None:
    record = json.loads(path.read_text())
    record["data"]["size"] += 1
    path.write_text(json.dumps(record))


def change_manifest(path: Path) -> None:
    rows = pq.read_table(path)
    at = rows.schema.get_field_index("ok")
    pq.write_table(rows.set_column(at, "ok", [[0] * len(rows)]).cast(rows.schema), path)


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


class Damage(NamedTuple):
    name: str
    """Name of the object that is damaged, and that must be named."""
    harm: Callable[[Path], None]
    mended: bool = True
    """True where `--repair` and the job's next run bring the output back."""


SHARD, ASIDE = "data/000000-000001.parquet", "_quarantine/000000-000000.parquet"
DAMAGES: Mapping[str, Damage] = {
    "a flipped shard": Damage(SHARD, flip),
    "a truncated shard": Damage(SHARD, truncate),
    "a missing shard": Damage(SHARD, remove),
    "an empty shard": Damage(SHARD, put(b"")),
    "two shards in each other's place": Damage(SHARD, swap),
    "a flipped quarantine": Damage(ASIDE, flip),
    "a truncated quarantine": Damage(ASIDE, truncate),
    "a missing quarantine": Damage(ASIDE, remove),
    "a stray quarantine": Damage("_quarantine/000000-000009.parquet", put()),
    "a quarantine of a unit that has none": Damage("_quarantine/000000-000002.parquet", put()),
    "a torn commit": Damage(COMMIT, truncate),
    "an empty commit": Damage(COMMIT, put(b"")),
    "a missing commit": Damage("unit 000000-000001", lambda path: (path.parent / COMMIT).unlink()),
    "a commit of another unit": Damage(COMMIT, edit(unit="000000-000002")),
    "a commit of another recipe": Damage(COMMIT, edit(fingerprint="0" * 64)),
    "a commit of another format": Damage(COMMIT, edit(format=1)),
    "a commit with a wrong size": Damage(COMMIT, resize_commit),
    "a commit with wrong counts": Damage(COMMIT, edit(counts={"inputs": 4, "ok": 4, "quarantined": 0, "skipped": 1})),
    "a commit that names another object": Damage(
        COMMIT, edit(data={"name": "README.md", "size": 1, "sha256": 64 * "0"})
    ),
    "a commit of no unit": Damage("_transdomain/commits/000000-000009.json", put(b"{}")),
    "a commit of a strange name": Damage("_transdomain/commits/note.json", put(b"{}")),
    "a truncated manifest": Damage("_transdomain/manifest.parquet", truncate),
    "a changed manifest": Damage("_transdomain/manifest.parquet", change_manifest),
    "a missing manifest": Damage("_transdomain/manifest.parquet", remove),
    "a card without its head": Damage("README.md", put(b"# mine")),
    "a truncated card": Damage("README.md", truncate),
    "a changed card": Damage("README.md", append),
    "a missing card": Damage("README.md", remove),
    "truncated metadata": Damage("croissant.json", truncate),
    "metadata of other data": Damage(
        "croissant.json", lambda path: path.write_text(path.read_text().replace('"sha256": "', '"sha256": "0'))
    ),
    "a damaged record of the job": Damage("_transdomain/job.json", truncate),
    "a record of another job": Damage("_transdomain/job.json", edit(job="augment")),
    "a missing record of the job": Damage("_transdomain/job.json", remove),
    "a torn mark": Damage("_SUCCESS", truncate),
    "a mark with wrong counts": Damage("_SUCCESS", edit(ok=5)),
    "a mark of fewer segments": Damage("_SUCCESS", edit(segments=0)),
    "a missing mark": Damage("_SUCCESS", remove),
    "a stranger among the shards": Damage("data/stranger.parquet", put(), mended=False),
    "a stranger among the retired": Damage("_transdomain/retired/note.json", put(b"{}"), mended=False),
    "a stranger beside data/": Damage("more.parquet", put(), mended=False),
    "a stranger among the records": Damage("_transdomain/notes.txt", put(), mended=False),
    "a truncated plan": Damage("_transdomain/plan/000000.parquet", truncate, mended=False),
    "a missing plan": Damage("_transdomain/plan/000000.parquet", remove, mended=False),
    "a plan that begins later": Damage(
        "_transdomain/plan/000000.parquet", lambda path: path.rename(path.with_name("000001.parquet")), mended=False
    ),
}
HARMLESS = {
    ".DS_Store": put(),
    "data/.DS_Store": put(),
    "_quarantine/._000000-000000.parquet": put(),
    "data/.000000-000000.parquet.abc.tmp": put(),
    "_transdomain/plan/._000000.parquet": put(),
    "_transdomain/commits/._000000-000000.json": put(),
    "_transdomain/retired/._000000.json": put(),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a source and two outputs of it, shards and a folder: 9 inputs in 3 units, the first with bad ones."""
    root = tmp_path_factory.mktemp("made")
    source = corpus.write_folder(str(root / "in"), 6)
    for bad in corpus.BROKEN:  # all in the first unit
        (root / "in" / bad).rename(root / "in/even" / f"-{bad.rpartition('/')[2]}")
    assert pack.main(["--input", source, "--output", str(root / "out"), "--local", "--limits.rows", "4"]) == 0
    bundle = corpus.write_bundle(str(root / "bundle"))
    options = ["--bundle", bundle, "--form", "folder", "--local", "--limits.rows", "4"]
    assert translate.main(["--input", source, "--output", str(root / "files"), *options]) == 0
    return root


def run_again(made: Path, output: Path) -> int:
    return pack.main(["--input", str(made / "in"), "--output", str(output), "--local", "--limits.rows", "4"])


def snapshot(output: Path) -> dict[str, tuple[int, bytes]]:
    """Return inode and content of each file: a file that is written again has another inode."""
    files = [path for path in output.rglob("*") if path.is_file()]
    return {str(path.relative_to(output)): (path.stat().st_ino, path.read_bytes()) for path in files}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damage_is_named_and_mended(
    kind: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, output = DAMAGES[kind], tmp_path / "out"
    shutil.copytree(made / "out", output)
    whole = snapshot(output)
    damage.harm(output / damage.name)
    harmed = snapshot(output)
    assert verify.main(["--input", str(output)]) == 1
    said = capsys.readouterr().out
    assert f"fault: {damage.name} " in said
    assert "NOT WHOLE" in said
    assert snapshot(output) == harmed

    assert verify.main(["--input", str(output), "--repair"]) == 1
    data = {name for name in whole if name.startswith(("data/", "_quarantine/", "_transdomain/commits/"))}
    sound = {name for name in data if harmed.get(name) == whole[name]}
    after = snapshot(output)
    also_harmed = {COMMIT.replace("01.json", "02.json")} if damage.harm is swap else set()
    unit = "000000-000001" if "000001" in damage.name else "000000-000000"
    assert {name for name in sound if after.get(name) != whole[name] and unit not in name} <= also_harmed
    if not damage.mended:
        assert f"left as it is: {damage.name} " in capsys.readouterr().out
        assert {name: after.get(name) for name in harmed} == harmed
        return
    assert run_again(made, output) == 0
    capsys.readouterr()
    assert verify.main(["--input", str(output)]) == 0, capsys.readouterr().out
    now = snapshot(output)
    assert {name: now[name][1] for name in data if "commits" not in name} == {
        name: whole[name][1] for name in data if "commits" not in name
    }


def test_a_wrong_commit_costs_no_sound_shard(made: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(made / "out", output)
    before = snapshot(output)
    resize_commit(output / COMMIT)
    assert verify.main(["--input", str(output), "--repair"]) == 1
    assert run_again(made, output) == 0
    assert snapshot(output)[SHARD] == before[SHARD]


@pytest.mark.parametrize("harm", [flip, truncate, remove])
@pytest.mark.parametrize("what", ["file", "verdict"])
def test_a_folder_of_files(made: Path, tmp_path: Path, what: str, harm: Callable[[Path], None]) -> None:
    output = tmp_path / "out"
    shutil.copytree(made / "files", output)
    below = output / ("data" if what == "file" else "_transdomain/verdicts")
    path = sorted(path for path in below.rglob("*") if path.is_file())[-1]
    harm(path)
    assert verify.main(["--input", str(output), "--repair"]) == 1
    options = ["--bundle", str(made / "bundle"), "--form", "folder", "--local", "--limits.rows", "4"]
    assert translate.main(["--input", str(made / "in"), "--output", str(output), *options]) == 0
    assert verify.main(["--input", str(output)]) == 0
    assert corpus.contents(str(output)) == corpus.contents(str(made / "files"))


@pytest.mark.parametrize("name", HARMLESS)
def test_what_readers_leave_out_is_no_fault(made: Path, tmp_path: Path, name: str) -> None:
    output = tmp_path / "out"
    shutil.copytree(made / "out", output)
    HARMLESS[name](output / name)
    assert verify.main(["--input", str(output)]) == 0
    assert run_again(made, output) == 0
    # An exceeded budget stays exceeded, whatever comes first in the quarantine.
    options = ["--input", str(made / "in"), "--output", str(output), "--local", "--limits.rows", "4"]
    assert pack.main([*options, "--budget.count", "1"]) == 3


def test_many_damages_are_all_named(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    shutil.copytree(made / "out", output)
    truncate(output / "_transdomain/commits/000000-000000.json")
    flip(output / SHARD)
    truncate(output / "_transdomain/job.json")
    (output / "_SUCCESS").unlink()
    verdict = look(str(output))
    named = {fault.name for fault in verdict.faults}
    assert {"_transdomain/commits/000000-000000.json", SHARD, "_transdomain/job.json"} <= named
    assert verify.main(["--input", str(output), "--repair"]) == 1
    assert run_again(made, output) == 0
    assert verify.main(["--input", str(output)]) == 0


def test_a_broken_shard_whose_source_is_gone_is_left(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = corpus.write_folder(str(tmp_path / "in"), 6)
    output = tmp_path / "out"
    assert pack.main(["--input", source, "--output", str(output), "--local", "--limits.rows", "4"]) == 0
    for path in (tmp_path / "in/even").glob("00*"):
        path.write_bytes(images.encode(corpus.picture(9, 30, 30), images.Encoding()))
    flip(output / "data/000000-000000.parquet")
    before = snapshot(output)
    assert verify.main(["--input", str(output), "--repair"]) == 1
    assert "cannot be made again" in capsys.readouterr().out
    assert snapshot(output) == before


def test_a_plan_that_has_lost_its_end_costs_no_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = corpus.write_folder(str(tmp_path / "in"), 3), tmp_path / "out"
    options = ["--input", source, "--output", str(output), "--local"]
    assert pack.main(options) == 0
    put(images.encode(corpus.picture(7), images.Encoding()))(tmp_path / "in/new.jpg")
    assert pack.main(options) == 0
    (output / "_transdomain/plan/000001.parquet").unlink()
    before = snapshot(output)
    assert verify.main(["--input", str(output), "--repair"]) == 1
    assert "plan/000001.parquet is missing" in capsys.readouterr().out
    put(images.encode(corpus.picture(8), images.Encoding()))(tmp_path / "in/newer.jpg")
    assert pack.main(options) == 2  # its units are not taken for those that were made
    assert "000001.parquet is missing" in capsys.readouterr().err
    assert snapshot(output) == before


def test_two_damages_in_a_folder_of_files(made: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(made / "files", output)
    flip(sorted(path for path in (output / "data").rglob("*") if path.is_file())[-1])
    for commit in (output / "_transdomain/commits").iterdir():
        truncate(commit)
    assert verify.main(["--input", str(output), "--repair"]) == 1
    options = ["--bundle", str(made / "bundle"), "--form", "folder", "--local", "--limits.rows", "4"]
    assert translate.main(["--input", str(made / "in"), "--output", str(output), *options]) == 0
    assert corpus.contents(str(output)) == corpus.contents(str(made / "files"))


def test_a_name_that_steers_a_terminal_is_shown_escaped(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    shutil.copytree(made / "out", output)
    put()(output / "data/x\n\x1b[2Jout: 9 inputs: whole.parquet")
    assert verify.main(["--input", str(output)]) == 1
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert len([line for line in said.splitlines() if "whole" in line.lower()]) == 2


def test_an_input_with_columns_like_those_of_a_verdict_is_no_verdict(tmp_path: Path) -> None:
    import pyarrow as pa

    data = images.encode(corpus.picture(1), images.Encoding())
    table = pa.table({"key": ["a"], "image": [{"bytes": data, "path": None}], "sha256": ["x"], "file_name": ["y"]})
    pq.write_table(table, tmp_path / "in.parquet")
    assert pack.main(["--input", str(tmp_path / "in.parquet"), "--output", str(tmp_path / "out"), "--local"]) == 0
    assert verify.main(["--input", str(tmp_path / "out")]) == 0
    assert io.BytesIO(data).getvalue() == data
