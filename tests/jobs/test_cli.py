"""Messages that every command line shares: hostile names are shown escaped, whatever the terminal."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import cli, pack, verify
from pipeline import images
from tests import corpus

VERDICT = "9 inputs = 9 ok + 0 quarantined + 0 skipped, in 1 units: whole"
HOSTILE = f"x\nout: {VERDICT}\x1b[8m\x9b2J\u202e[red].png"


@pytest.fixture
def damaged(tmp_path: Path) -> str:
    """Make a store with a stray shard of a hostile name, one of whose sources, with such a name, is gone."""
    source, output = corpus.write_folder(str(tmp_path / "in"), 2), str(tmp_path / "out")
    good = images.encode(corpus.picture(1), images.Encoding(codec="png"))
    Path(source, HOSTILE).write_bytes(good)
    Path(source, "grün 東京.png").write_bytes(good)
    assert pack.main(["--input", source, "--output", output, "--local"]) == 0
    Path(source, HOSTILE).unlink()
    Path(source, "grün 東京.png").unlink()
    Path(output, "data", f"{HOSTILE}.parquet").write_bytes(b"stray")
    return output


def test_a_name_cannot_say_that_all_is_whole(damaged: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert verify.main(["--input", damaged]) == 1
    said = capsys.readouterr()
    lines = (said.out + said.err).splitlines()
    assert all(line.isprintable() for line in lines)
    assert "NOT WHOLE" in lines[-1]
    assert not any(line.startswith("out: ") for line in lines)


def test_a_name_that_the_terminal_cannot_show_is_no_failure(damaged: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    command = [sys.executable, "-m", "jobs.verify", "--input", damaged]
    ended = subprocess.run(command, capture_output=True, env=environment)
    assert ended.returncode == 1
    assert b"NOT WHOLE" in ended.stdout.splitlines()[-1]
    assert ended.stdout.isascii()


def test_an_error_is_one_line_whatever_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / HOSTILE)
    for debug in ([], ["--debug"]):
        assert pack.main(["--input", missing, "--output", str(tmp_path / "out"), "--local", *debug]) == 2
        said = capsys.readouterr().err.rstrip("\n")
        assert "\x1b" not in said
        assert not any(line.startswith("out: ") for line in said.splitlines())


def test_the_line_that_resumes_can_be_pasted_and_does_no_harm() -> None:
    arguments = ["--input", "a b\n\x1b[8mit's \\ grün\u202e", "--output", "out"]
    line = cli._command("pack", arguments)
    assert line.isprintable()
    shown = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True).stdout
    assert shown.decode().split("\0")[:-1] == ["python", "-m", "jobs.pack", *arguments]
    assert shlex.split(cli._command("pack", ["--input", "a b"])) == ["python", "-m", "jobs.pack", "--input", "a b"]
