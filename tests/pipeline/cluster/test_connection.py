from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private import services

from jobs import pack
from pipeline.cluster import connection, ray_internals
from pipeline.cluster.connection import check_machine, connect, object_store_bytes
from pipeline.errors import UserError
from tests import corpus
from tests.cluster import free_port


def test_a_cluster_that_does_not_answer_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("127.0.0.1", "127.0.0.9"):
        monkeypatch.setenv("RAY_ADDRESS", f"{host}:{free_port()}")
        with pytest.raises(UserError, match=r"RAY_ADDRESS is 127\.0\.0\.\d:\d+: no cluster answers there"), connect():
            pass
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    with pytest.raises(UserError, match="transdomain submit"), connect():
        pass


def test_a_raylet_that_ends_while_it_starts_is_started_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    get_node, killed, before = services.get_node, list[int](), ray_internals._children()

    def kill_the_first(*arguments: Any) -> Any:
        if not killed:
            killed.extend(pid for pid, name in ray_internals._children().items() if name == "raylet")
            os.kill(killed[0], signal.SIGKILL)
            raise RuntimeError("not registered yet")
        return get_node(*arguments)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(services, "get_node", kill_the_first)
    with caplog.at_level("WARNING", "transdomain"), connect():
        assert ray.get(ray.put(1)) == 1
        names = Counter(name for pid, name in ray_internals._children().items() if pid not in before)
        assert (names["raylet"], names["gcs_server"]) == (1, 1)  # nothing of the first start is left
    assert services.get_node is kill_the_first
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("Ray did not start: its raylet ended")


def test_a_cluster_that_never_starts_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise RuntimeError("not registered")

    monkeypatch.setattr(services, "get_node", never)
    monkeypatch.setattr(ray_internals, "_children", lambda: {1: "raylet"})
    with pytest.raises(ray_internals.StartError, match="did not register in 0 s"), ray_internals.startup(0.3):
        services.get_node("127.0.0.1:1", "node")


GB = 10**9


@pytest.mark.parametrize(
    ("cpus", "memory", "shared_memory", "expected"),
    [
        (2, 24 * GB, 24 * GB, 2 * GB),
        (16, 120 * GB, 60 * GB, 16 * GB),
        (2, 3 * GB, 24 * GB, 1 * GB),
        (16, 120 * GB, 10 * GB, 9 * GB),
        (64, 90 * GB, 90 * GB, 30 * GB),
    ],
)
def test_more_cores_have_more_memory_for_units(cpus: int, memory: int, shared_memory: int, expected: int) -> None:
    assert object_store_bytes(cpus, memory, shared_memory) == expected


def test_a_folder_whose_path_is_too_long_for_sockets_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    source = corpus.write_folder(str(tmp_path / "in"), 1)
    assert pack.main(["--input", source, "--output", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"pack: {long}: the folder for temporary files has too long a path: ")
    assert "set TMPDIR (or RAY_TMPDIR) to a shorter one" in line


def test_the_longest_path_that_is_accepted_is_one_that_ray_takes() -> None:
    name = len("/ray/session_2026-11-27_06-05-17_239776_4194304/sockets/plasma_store")
    check_machine("/" + (107 - name - 1) * "x", 10**10)
    with pytest.raises(UserError, match="too long a path"):
        check_machine("/" + (107 - name) * "x", 10**10)


def test_too_little_shared_memory_is_named() -> None:
    with pytest.raises(UserError, match=r"/dev/shm has 64 MB free, and Ray needs 89 .* --shm-size=2g"):
        check_machine("/tmp", 64_000_000)


def test_shared_memory_that_makes_a_job_slow_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "transdomain"):
        check_machine("/tmp", 100 * GB)
        assert caplog.text == ""
        check_machine("/tmp", 100_000_000)
    assert "/dev/shm has 100 MB free, and a third of the memory would be better" in caplog.text


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["a stopped head", "the dashboard"])
def test_a_process_that_listens_and_is_no_head_is_refused(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself tries for minutes."""
    monkeypatch.setattr(connection, "_ANSWER_WITHIN_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        thread = threading.Thread(target=answer_each, args=(listening, said), daemon=True)
        thread.start()
        with pytest.raises(UserError, match="listens there, but it does not answer as the head of a Ray"), connect():
            pass
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def answer_each(listening: socket.socket, said: bytes) -> None:
    """Answer every connection alike, and keep it open, until nobody listens any more."""
    with contextlib.ExitStack() as open_ones, contextlib.suppress(OSError):
        while True:
            open_ones.enter_context(accepted := listening.accept()[0])
            accepted.sendall(said)
