"""Processes of a machine share what one of them has spooled, and nothing is left of it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.stores.forms.groups import shared as sharing
from pipeline.stores.forms.groups.shared import shared
from pipeline.stores.forms.groups.spool import Spool, spooled

ROOT = Path(__file__).parents[5]


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    sharing._folder.cache_clear()
    yield tmp_path / f"transdomain-{os.getuid()}"
    sharing._folder.cache_clear()


def rows(first: int) -> Spool:
    return spooled(pa.record_batch({"n": list(range(i, i + 4))}) for i in range(first, first + 40, 4))


def fail() -> Spool:
    raise AssertionError("spooled a second time")


OTHER = """
import sys, time
from tests.pipeline.stores.forms.groups.test_shared import rows, shared
held = shared("key", lambda: rows(int(sys.argv[1])))
print(held.rows(0, 1)["n"][0].as_py(), flush=True)
time.sleep(float(sys.argv[2]))
"""


def other(first: int, lives_s: float) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", OTHER, str(first), str(lives_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_what_another_process_has_spooled_is_read_from_its_file(notes: Path) -> None:
    with other(100, 60.0) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "100\n"
        held = shared("key", fail)
        holder.kill()
    # The file outlives the process that made it.
    assert held.rows(3, 9)["n"].to_pylist() == list(range(103, 109))
    assert held.rows(0, 40)["n"].to_pylist() == list(range(100, 140))
    del held
    gc.collect()
    assert shared("key", lambda: rows(500)).rows(0, 1)["n"].to_pylist() == [500]


def test_several_processes_spool_once(notes: Path) -> None:
    processes = [other(first, 5.0) for first in (100, 200, 300)]
    found = {process.stdout.readline() for process in processes if process.stdout}
    for process in processes:
        process.kill()
        process.communicate()
    assert len(found) == 1


def test_notes_of_processes_that_are_gone_are_removed(notes: Path) -> None:
    with other(100, 60.0) as holder:
        assert holder.stdout
        holder.stdout.readline()
        holder.kill()
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{holder.pid}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(list(notes.iterdir())) == 1
    held = shared("other", lambda: rows(0))
    assert [note.read_bytes().split()[0] for note in notes.iterdir()] == [b"%d" % os.getpid()]
    del held
    gc.collect()
    assert list(notes.iterdir()) == []


def test_a_folder_of_somebody_else_is_not_used(notes: Path) -> None:
    notes.mkdir(mode=0o777)
    notes.chmod(0o777)
    assert shared("key", lambda: rows(7)).rows(0, 1)["n"].to_pylist() == [7]
    assert list(notes.iterdir()) == []
