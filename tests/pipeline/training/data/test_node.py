"""Memory that workers of a node share: nothing of it is left behind, whatever happens."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pipeline.training.data import loader, node
from pipeline.training.data.reads import ReadMonitor
from pipeline.training.distributed.group import Group
from tests.pipeline.training import small


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder for temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(node.tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def without_proc(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Simulate a machine on which a file needs a name to be opened by other processes."""
    exists = os.path.exists
    monkeypatch.setattr(node.os.path, "exists", lambda path: path != "/proc/self/fd" and exists(path))
    return temporary


def full(*_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def broken(line: str) -> None:
    raise RuntimeError("nobody listens")


def open_descriptors() -> set[str]:
    """Return the open descriptors with the files they refer to."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        if os.path.islink(path := f"/proc/self/fd/{name}"):
            found.add(f"{name} {os.readlink(path)}")
    return {each for each in found if "transdomain" in each}


def test_a_file_with_a_name_is_shared_and_removed(without_proc: Path) -> None:
    memory = node.allocate(5000)
    assert os.listdir(without_proc) == [os.path.basename(memory.path)]
    node.attach(memory.path, 5000)[:] = 7
    assert node.attach(memory.path, 5000).sum() == 35000
    memory.release()
    assert os.listdir(without_proc) == []


@pytest.mark.parametrize("proc", [True, False])
@pytest.mark.parametrize("fault", ["a full disk", "a listener that fails"])
def test_what_could_not_be_allocated_leaves_nothing(
    proc: bool, fault: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary: Path = request.getfixturevalue("temporary" if proc else "without_proc")
    monkeypatch.setattr(node, "available_memory", lambda: 1000)
    if fault == "a full disk":
        monkeypatch.setattr(node.os, "posix_fallocate", full)
    else:
        monkeypatch.setattr(node.log, "info", broken)
    with pytest.raises((OSError, RuntimeError)):
        node.allocate(5000)
    assert os.listdir(temporary) == []
    assert open_descriptors() == set()


def test_a_rank_that_is_lost_while_the_set_is_loaded_leaves_nothing(
    without_proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = small.write_pairs("memory://node/lost", 2)
    sources = loader.find_sources(small.pix2pix(store, "memory://node/run"))
    gathered: list[object] = []

    class Losing(Group):
        def gather(self, value: object) -> list:
            gathered.append(value)
            if len(gathered) > 1:
                raise RuntimeError("connection closed by peer")
            return [value]

    with pytest.raises(RuntimeError, match="closed by peer"):
        node.load_shared(sources, small.SIZE, Losing(), 1, reads=ReadMonitor())
    assert os.listdir(without_proc) == []
    assert open_descriptors() == set()
