from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline import errors, storage
from pipeline.errors import UserError
from pipeline.storage import exclusive, retry
from tests import processes


def test_create_is_exclusive_and_whole(any_prefix: str) -> None:
    url = storage.join(any_prefix, "a/b.bin")
    assert storage.create(url, b"first")
    assert not storage.create(url, b"second")
    assert storage.read(url) == b"first"


def test_replace_delete_and_missing_objects(any_prefix: str) -> None:
    url = storage.join(any_prefix, "x")
    assert storage.read_if_there(url) is None
    assert storage.stat_file(url) is None
    storage.replace(url, b"1")
    storage.replace(url, b"22")
    entry = storage.stat_file(url)
    assert entry is not None
    assert entry.size == 2
    assert storage.read(url) == b"22"
    storage.delete(url)
    storage.delete(url)
    with pytest.raises(FileNotFoundError):
        storage.read(url)


def test_listing_is_sorted_relative_and_never_stale(any_prefix: str) -> None:
    for name in ("b/2.txt", "a/1.txt", "c.bin"):
        storage.create(storage.join(any_prefix, name), b"x")
        listed = [entry.name for entry in storage.list_files(any_prefix)]
        assert name in listed
    assert [entry.name for entry in storage.list_files(any_prefix)] == ["a/1.txt", "b/2.txt", "c.bin"]
    assert [entry.name for entry in storage.list_files(any_prefix, ".txt")] == ["a/1.txt", "b/2.txt"]
    assert not storage.list_files(storage.join(any_prefix, "nothing"))


def test_the_version_changes_with_the_content(any_prefix: str) -> None:
    url = storage.join(any_prefix, "v")
    storage.replace(url, b"1")
    before = storage.stat_file(url)
    assert storage.stat_file(url) == before
    storage.replace(url, b"22")
    after = storage.stat_file(url)
    assert before is not None
    assert after is not None
    assert before.version != after.version


def test_one_of_many_threads_wins(any_prefix: str) -> None:
    for race in range(3 if any_prefix.startswith(("s3", "gs")) else 20):
        url = storage.join(any_prefix, f"race-{race}")
        barrier = threading.Barrier(8)
        won: list[bytes] = []

        def attempt(me: int, url: str = url, barrier: threading.Barrier = barrier, won: list[bytes] = won) -> None:
            data = f"writer {me}".encode() * 1000
            barrier.wait()
            if storage.create(url, data):
                won.append(data)

        threads = [threading.Thread(target=attempt, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert storage.read(url) == won[0]


def _race(
    url: str, me: int, barrier: threading.Barrier, queue: multiprocessing.Queue[int], environment: Mapping[str, str]
) -> None:
    processes.take_over(environment)
    storage.list_files(url)  # connect first: the race is for the name, not for the connection
    barrier.wait()
    if storage.create(url, f"process {me}".encode() * 100_000):
        queue.put(me)


def test_one_of_several_processes_wins(shared_prefix: str) -> None:
    context, environment = processes.context(), dict(os.environ)
    queue: multiprocessing.Queue[int] = context.Queue()
    url = storage.join(shared_prefix, "race")
    barrier = context.Barrier(3)
    racers = [context.Process(target=_race, args=(url, i, barrier, queue, environment)) for i in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    winner = queue.get(timeout=5)
    assert queue.empty()
    assert storage.read(url).startswith(f"process {winner}".encode())


def test_an_exception_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    for write in (storage.create, storage.replace):
        with pytest.raises(errors.StorageError, match=r"out: No space left on device; free some space"):
            write(str(tmp_path / "out"), b"x" * 1000)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_unnamed_files_is_exclusive_too(tmp_path: Path) -> None:
    path = str(tmp_path / "out")
    assert exclusive.create_local_named(path, b"1")
    assert not exclusive.create_local_named(path, b"2")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("write", [storage.create, storage.replace])
def test_a_folder_that_another_run_removes_is_made_again(
    write: Callable[[str, bytes], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that begins removes the folders that it made and found empty, and this one may just have entered them."""
    folder, opened, removals = tmp_path / "out/_transdomain", os.open, [None] * 2

    def remove_first(path: Any, *arguments: Any, **settings: Any) -> int:
        if removals and Path(path) != folder.parent and folder.exists():
            removals.pop()
            folder.rmdir()
        return opened(path, *arguments, **settings)

    monkeypatch.setattr(os, "open", remove_first)
    write(str(folder / "job.json"), b"job")
    assert not removals
    assert storage.read(str(folder / "job.json")) == b"job"


def test_runs_that_begin_at_once_are_in_nobodys_way(tmp_path: Path) -> None:
    def begin(output: str) -> bool:
        storage.check_output(output)
        return storage.create(f"{output}/_transdomain/job.json", b"job")

    with ThreadPoolExecutor(4) as threads:
        for i in range(30):
            assert sum(threads.map(begin, [str(tmp_path / f"out{i}")] * 4)) == 1


def test_files_are_readable_by_others(tmp_path: Path) -> None:
    storage.create(str(tmp_path / "f"), b"1")
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o644 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/.", "a\0b"])
def test_a_name_cannot_leave_its_prefix(name: str) -> None:
    with pytest.raises(ValueError, match="not a path below"):
        storage.join("s3://bucket/out", name)


def test_check_output_leaves_nothing(any_prefix: str) -> None:
    storage.check_output(any_prefix)
    assert not storage.list_files(any_prefix)


def test_a_filesystem_without_exclusive_create_is_refused() -> None:
    with pytest.raises(UserError, match="no exclusive create"):
        storage.check_output("http://127.0.0.1:9/out")


def test_an_unknown_scheme_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="no filesystem for this URL"):
        storage.read("nosuch://x/y")


def test_retries_end_with_an_error_that_names_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "MAX_WAIT_S", 0.0)
    calls = []

    def fail() -> None:
        calls.append(1)
        raise ConnectionResetError("peer")

    tries = retry.PATIENCE[retry.Fault.SILENT].attempts
    with pytest.raises(
        errors.StorageError, match=rf"s3://b/k: ConnectionResetError: peer \(tried {tries} times in 0 s\)"
    ):
        retry.retrying(fail, "s3://b/k")
    assert len(calls) == tries


def test_an_answer_is_not_a_fault() -> None:
    calls = []

    def missing() -> None:
        calls.append(1)
        raise FileNotFoundError("k")

    with pytest.raises(FileNotFoundError):
        retry.retrying(missing, "s3://b/k")
    assert calls == [1]


def test_credentials_do_not_reach_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-value")
    assert errors.redact("x very-secret-value y") == "x [redacted] y"


def test_a_leftover_is_known_by_its_name() -> None:
    assert storage.is_leftover("data/.a.parquet.0123.tmp")
    assert not storage.is_leftover("data/a.parquet")


def test_what_grows_is_whole_after_an_attempt_that_failed_halfway_and_after_a_removal(tmp_path: Path) -> None:
    file = tmp_path / "log"
    storage.grow(str(file), b"abc", 0)
    file.write_bytes(b"abcde")  # the disk was full
    storage.grow(str(file), b"abcdefg", 3)
    assert file.read_bytes() == b"abcdefg"
    file.unlink()
    storage.grow(str(file), b"abcdefgh", 7)
    assert file.read_bytes() == b"abcdefgh"
