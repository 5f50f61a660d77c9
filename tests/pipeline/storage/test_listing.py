"""Listings: they are whole or an error, follow links once, and count what they pass over."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from pipeline import storage
from pipeline.errors import StorageError
from pipeline.storage import listing

UNREADABLE = """
import os, sys
from pipeline import storage
from pipeline.errors import StorageError
storage.list_files("/dev/null")
if os.getuid() == 0:  # who may list everything
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for list_them in (storage.list_files, storage.list_inputs):
    try:
        print(list_them(sys.argv[1]))
    except StorageError as error:
        print(error)
"""


def names(url: str) -> list[str]:
    return [entry.name for entry in storage.list_inputs(url).entries]


def said(url: str) -> dict[str, tuple[int, str]]:
    return storage.list_inputs(url).tally.counts


def test_a_folder_that_cannot_be_listed_is_an_error_that_names_it(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o711)
    closed = tmp_path / "in/closed"
    closed.mkdir(parents=True)
    (tmp_path / "in").chmod(0o755)
    (tmp_path / "in/lost+found").mkdir(mode=0)
    closed.chmod(0)
    run = subprocess.run(
        [sys.executable, "-c", UNREADABLE, str(tmp_path / "in")],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.count(f"{closed}: cannot be listed (Permission denied)") == 2, run


def test_links_are_followed_and_loops_and_dead_ones_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "other/deep").mkdir(parents=True)
    for name in ("in/a", "in/sub/b", "other/c", "other/deep/d"):
        (tmp_path / name).write_bytes(b"x" * len(name))
    for link, target in {
        "in/dead": "nowhere", "in/self": ".", "in/sub/up": "../..", "in/other": "../other", "other/back": "../in",
        "other/deep/itself": ".", "in/turn": "turn", "in/through": "a/b", "in/file": "sub/b", "in/twin": "sub",
    }.items():  # fmt: skip
        os.symlink(target, tmp_path / link)
    os.mkfifo(root / "pipe")
    assert names(str(root)) == ["a", "file", "other/c", "other/deep/d", "sub/b", "twin/b"]
    assert said(str(root)) == {
        storage.Tally.NOWHERE: (3, "dead"),
        storage.Tally.LOOP: (5, "other/back"),
        storage.Tally.NO_FILE: (1, "pipe"),
    }
    assert [entry.name for entry in storage.list_files(str(root))] == names(str(root))


def test_a_listing_and_a_look_at_one_file_agree_on_its_version(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123")
    os.symlink("file", tmp_path / "link")
    os.utime(tmp_path / "link", (5, 5), follow_symlinks=False)
    for entry in storage.list_inputs(str(tmp_path)).entries:
        assert storage.stat_file(entry.url) == entry
        assert entry.size == 3


def test_folders_with_a_dot_are_not_entered(tmp_path: Path) -> None:
    (tmp_path / ".git/objects").mkdir(parents=True)
    (tmp_path / ".git/objects/a").write_bytes(b"")
    (tmp_path / ".DS_Store").write_bytes(b"")
    assert names(str(tmp_path)) == []
    assert said(str(tmp_path)) == {storage.Tally.HIDDEN: (2, ".DS_Store")}
    assert [e.name for e in storage.list_files(str(tmp_path))] == [".DS_Store", ".git/objects/a"]


def test_what_a_pattern_leaves_out_is_neither_entered_nor_counted(tmp_path: Path) -> None:
    for name in ("cam1", "private"):
        (tmp_path / name).mkdir()
        os.symlink("nowhere", tmp_path / name / "dead")
    entered: list[str] = []
    found = storage.list_inputs(
        str(tmp_path),
        wants=lambda name: name.startswith("cam"),
        enters=lambda name: not entered.append(name) and name.startswith("cam"),  # type: ignore[func-returns-value]
    )
    assert found.tally.counts == {storage.Tally.NOWHERE: (1, "cam1/dead")}
    assert sorted(entered) == ["cam1", "private"]


def test_what_goes_while_a_walk_lasts_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"")
    scandir = os.scandir

    def scandir_then_remove(path: str) -> object:
        found = scandir(path)
        if path == str(tmp_path):
            (tmp_path / "a/file").unlink()
            (tmp_path / "a").rmdir()
        return found

    monkeypatch.setattr(os, "scandir", scandir_then_remove)
    assert names(str(tmp_path)) == ["b/file"]


def test_markers_of_folders_are_no_objects(s3_server: str) -> None:
    url = "s3://bucket"
    fs, _ = storage.filesystem(url)
    assert isinstance(fs, fsspec.AbstractFileSystem)
    found = {
        f"bucket/in/{name}": {"type": "file", "size": size, "ETag": '"e"'}
        for name, size in {"": 0, "sub/": 0, "full/": 3, "sub/a": 1, ".x/b": 1, "c?versionId=7": 1}.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing.s3, "find", lambda fs, path, url: found.items())
        result = storage.list_inputs("s3://bucket/in")
    assert [entry.name for entry in result.entries] == ["sub/a"]
    assert result.tally.counts == {
        listing.FOLDER_MARKERS: (1, "full/"),
        storage.Tally.HIDDEN: (1, ".x/b"),
        listing.UNHOLDABLE: (1, "c?versionId=7"),
    }


def test_a_filesystem_that_is_no_disk_and_no_object_store_is_walked_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Strange(fsspec.AbstractFileSystem):  # type: ignore[misc]
        def ls(self, path: str, detail: bool = True, **options: object) -> list[dict[str, object]]:
            if path.endswith("closed"):
                raise PermissionError(13, "denied", path)
            folders = {"/in": ["/in/sub"], "/in/sub": []}
            files = {"/in": ["/in/a"], "/in/sub": ["/in/sub/b"]}
            return [{"name": n, "type": "directory", "size": 0} for n in folders[path]] + [
                {"name": n, "type": "file", "size": 1, "mtime": 2.0} for n in files[path]
            ]

    monkeypatch.setattr(listing, "filesystem", lambda url: (Strange(), url))
    assert names("/in") == ["a", "sub/b"]
    with pytest.raises(PermissionError):
        names("/in/closed")


def test_a_socket_is_no_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("s")
        assert names(str(tmp_path)) == []
        assert said(str(tmp_path)) == {storage.Tally.NO_FILE: (1, "s")}


def test_storage_errors_of_a_listing_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(path: str) -> object:
        raise OSError(116, "Stale file handle", path)

    monkeypatch.setattr(os, "scandir", stale)
    with pytest.raises(StorageError, match=r"cannot be listed \(Stale file handle\)"):
        storage.list_files(str(tmp_path))
