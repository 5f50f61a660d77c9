"""Requests to Google's storage, through a proxy that loses answers, damages bodies, refuses for a while and hangs."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import fsspec
import pytest

from pipeline import storage
from pipeline.errors import StorageError, UserError
from pipeline.storage import retry
from pipeline.storage.clouds import gs
from pipeline.storage.retry import Fault, Patience
from tests import gcs, processes
from tests import proxy as faults
from tests.proxy import Proxy

UPLOAD, READ = "storage/v1/b", "storage/v1/b"


@pytest.fixture(scope="module")
def standing_proxy(gs_server: str) -> Iterator[Proxy]:
    with pytest.MonkeyPatch.context() as patch, faults.serve(gs_server) as between:
        patch.setenv("STORAGE_EMULATOR_HOST", between.endpoint)
        storage.exists(f"gs://{gcs.BUCKET}/x")
        yield between


@pytest.fixture
def proxy(standing_proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(retry, "MAX_WAIT_S", 0.05)
    standing_proxy.forget()
    yield standing_proxy
    standing_proxy.forget()


@pytest.fixture
def prefix(gs_server: str) -> str:
    return f"gs://{gcs.BUCKET}/{uuid.uuid4().hex[:12]}"


def _impatient(monkeypatch: pytest.MonkeyPatch, *, attempts: int, total_s: float, answer_s: float) -> None:
    monkeypatch.setattr(retry, "PATIENCE", dict.fromkeys(Fault, Patience(attempts, total_s)))
    monkeypatch.setattr(retry, "ANSWER_S", answer_s)


# --- writing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, 60_000_000])
def test_a_create_whose_answer_is_lost_is_one_whole_object(proxy: Proxy, prefix: str, size: int) -> None:
    """gcsfs sends the largest body in parts, and asks the server to drop them after an error."""
    url, data = f"{prefix}/x", os.urandom(1000) * (size // 1000) or b"0123456789"[:size]
    proxy.when("POST", UPLOAD, faults.drop_answer)
    assert not storage.create(url, data)
    assert storage.read(url) == data
    assert not storage.create(url, b"other")
    assert [request.method for request in proxy.requests].count("POST") == 3
    assert not proxy.seen("DELETE")


@pytest.mark.parametrize("size", [10, 5_000_000])
@pytest.mark.parametrize("fault", [lambda request, server: None, faults.refuse(503, "busy"), faults.hang])
def test_a_write_that_never_came_is_written_whole_the_next_time(
    proxy: Proxy, prefix: str, fault: faults.Fault, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch, attempts=4, total_s=9, answer_s=0.5)
    proxy.when("POST", UPLOAD, fault, times=2)
    data = os.urandom(size)
    assert storage.create(f"{prefix}/x", data)
    assert storage.read(f"{prefix}/x") == data


def test_a_replacement_whose_answer_is_lost_is_written_again(proxy: Proxy, prefix: str) -> None:
    proxy.when("POST", UPLOAD, faults.drop_answer, times=2)
    storage.replace(f"{prefix}/x", b"new")
    assert storage.read(f"{prefix}/x") == b"new"


def test_a_first_write_whose_answer_is_lost_does_not_make_a_server_unfit(proxy: Proxy, prefix: str) -> None:
    proxy.when("POST", UPLOAD, faults.drop_answer)
    storage.check_output(prefix)
    assert not storage.list_files(prefix)


def test_a_server_that_ignores_the_condition_is_refused(proxy: Proxy, prefix: str) -> None:
    def ignore(request: faults.Request, server: faults.Server) -> faults.Answer:
        return server(request._replace(path=request.path.replace("&ifGenerationMatch=0", "")))

    proxy.when("POST", UPLOAD, ignore, times=9)
    with pytest.raises(UserError, match="ignores ifGenerationMatch"):
        storage.check_output(prefix)


@pytest.mark.parametrize("status", [200, 301])
def test_an_answer_that_is_not_the_servers_own_is_no_success(proxy: Proxy, prefix: str, status: int) -> None:
    page = faults.Answer(status, {"Content-Type": "text/html", "Location": "/login"}, b'{"kind": "login"}')
    proxy.when("POST", UPLOAD, lambda *_: page, times=1)
    if status == 200:
        assert storage.create(f"{prefix}/x", b"1")
        assert storage.read(f"{prefix}/x") == b"1"
    else:
        with pytest.raises(StorageError, match=rf"{prefix}/x: 301: "):
            storage.create(f"{prefix}/x", b"1")


def test_an_image_that_holds_a_border_of_parts_is_written_whole(prefix: str) -> None:
    data = b"\xff\xd8\r\n--==0==--\r\n\n--==0==--" * 3
    storage.create(f"{prefix}/x", data)
    assert storage.read(f"{prefix}/x") == data


@pytest.mark.parametrize("name", ["a b", "a%2Fb", "a+b", "ä/é", "a#1", "a?b=c", "100%", "a&b;c", "x?y#q"])
def test_every_name_comes_back(prefix: str, name: str) -> None:
    url = storage.join(prefix, name)
    assert storage.create(url, name.encode())
    [entry] = storage.list_files(prefix)
    assert (entry.name, entry.url, storage.read(entry.url)) == (name, url, name.encode())
    assert storage.stat_file(url) == entry._replace(name=name.rpartition("/")[2])
    storage.delete(url)
    assert not storage.list_files(prefix)


# --- reading -------------------------------------------------------------------------------------------------------

DAMAGES = {
    "cut off": faults.cut(0.5),
    "short, checksums stripped": faults.shorten(0.5),
    "flipped": faults.flip(0.5, strip=False),
    "429": faults.refuse(429, "slow down"),
    "401": faults.refuse(401, "token"),
    "403": faults.refuse(403, "denied"),
    "502": lambda request, server: faults.Answer(502, {"Content-Type": "text/html"}, b"<html>Bad Gateway"),
    "lost": faults.drop_answer,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_body_that_comes_damaged_is_read_again(proxy: Proxy, prefix: str, damage: str) -> None:
    storage.replace(f"{prefix}/x", b"0123456789" * 1000)
    proxy.when("GET", READ, DAMAGES[damage], times=2)
    assert storage.read(f"{prefix}/x", size=10_000) == b"0123456789" * 1000
    assert len(proxy.seen("GET", READ)) == 3


@pytest.mark.parametrize("damage", [each for each in DAMAGES if each != "flipped"])
def test_a_range_that_comes_damaged_is_read_again(proxy: Proxy, prefix: str, damage: str) -> None:
    storage.replace(f"{prefix}/x", b"0123456789" * 1000)
    entry = storage.stat_file(f"{prefix}/x")
    with storage.open_read(f"{prefix}/x", entry) as file:
        file.seek(995)
        proxy.when("GET", READ, DAMAGES[damage], times=2)
        assert file.read(10) == b"5678901234"
        file.seek(9_995)
        proxy.when("GET", READ, faults.flip(0.5), times=1)
        assert file.read() == b"56789", "the end is read twice"


def test_an_object_that_is_replaced_while_it_is_read_is_said(prefix: str) -> None:
    storage.replace(f"{prefix}/x", b"old")
    entry = storage.stat_file(f"{prefix}/x")
    assert entry
    storage.replace(f"{prefix}/x", b"new")
    with pytest.raises(StorageError, match=f"{prefix}/x: changed while it was read"):
        storage.read(f"{prefix}/x", version=entry.version)
    with storage.open_read(f"{prefix}/x", entry) as file, pytest.raises(StorageError, match="changed while"):
        file.read(2)


def test_a_condition_that_the_server_refuses_is_a_change_too(proxy: Proxy, prefix: str) -> None:
    storage.replace(f"{prefix}/x", b"old")
    proxy.when("GET", READ, faults.refuse(412, "conditionNotMet"))
    with pytest.raises(StorageError, match="changed while it was read"):
        storage.read(f"{prefix}/x", version="1")


def test_a_listing_is_tried_again_page_by_page(proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        storage.create(f"{prefix}/{i}", b"1")
    monkeypatch.setattr(gs, "_AT_ONCE", "2")
    proxy.requests.clear()
    proxy.when("GET", "v1/b", faults.drop_answer, times=1)
    assert [entry.name for entry in storage.list_files(prefix)] == ["0", "1", "2", "3", "4"]
    assert len(proxy.seen("GET")) == 4


# --- time ----------------------------------------------------------------------------------------------------------

OPERATIONS: dict[str, Callable[[str], object]] = {
    "read": storage.read,
    "stat": storage.stat_file,
    "list": storage.list_files,
    "create": lambda url: storage.create(url, b"1"),
    "create, large": lambda url: storage.create(url, b"1" * 30_000_000),
    "replace": lambda url: storage.replace(url, b"1"),
    "delete": storage.delete,
}


@pytest.mark.parametrize("how", ["hangs", "closes"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_server_that_does_not_answer_ends_each_attempt_and_leaves_the_rest_usable(
    proxy: Proxy, prefix: str, operation: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch, attempts=2, total_s=9, answer_s=0.3)
    proxy.when("GET POST DELETE", "", faults.hang if how == "hangs" else lambda *_: None, times=1e9, for_s=20)
    begun, before = time.monotonic(), proxy.connections
    with pytest.raises(StorageError, match=r"tried 2 times in [0-2] s"):
        OPERATIONS[operation](f"{prefix}/x")
    assert time.monotonic() - begun < 5
    assert proxy.connections - before <= 2
    assert len(proxy.requests) <= 2
    proxy.forget()
    assert OPERATIONS["create"](f"{prefix}/y")


def test_a_body_that_stops_on_the_way_ends_its_attempt(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _impatient(monkeypatch, attempts=1, total_s=9, answer_s=0.3)
    with socket.socket() as still:
        still.bind(("127.0.0.1", 0))
        still.listen()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{still.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(StorageError, match=r"x: nothing was sent or answered for 0.3 s \(tried once"):
            storage.replace(f"{prefix}/x", b"1" * 50_000_000)
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize("kind", ["refused", "hangs"])
def test_preflight_of_a_dead_endpoint_ends_within_seconds(
    kind: str, prefix: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_ANSWER_S", 0.3)
    monkeypatch.setattr(retry, "FIRST_PATIENCE", retry.FIRST_PATIENCE | {Fault.SILENT: Patience(4, 0.5)})
    if kind == "refused":
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{closed.getsockname()[1]}")
    proxy.when("GET POST", "", faults.hang, times=1e9)
    begun = time.monotonic()
    with retry.first_answer_soon(), pytest.raises(UserError, match=r"cannot be written .*tried"):
        storage.check_output(prefix)
    assert time.monotonic() - begun < 3


def test_a_server_that_is_killed_and_started_again_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = gcs.Server(tmp_path)
    server.start()
    try:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.endpoint)
        url = f"gs://{gcs.BUCKET}/x"
        assert storage.create(url, b"1")
        server.kill()
        again = threading.Timer(0.5, server.start)
        again.start()
        assert storage.read(url) == b"1"
        again.join()
        assert not storage.create(url, b"2")
    finally:
        server.kill()


# --- races ---------------------------------------------------------------------------------------------------------


def _race(
    url: str, me: int, races: int, barrier: threading.Barrier, wins: multiprocessing.Queue[tuple[int, int]],
    environment: Mapping[str, str],
) -> None:  # fmt: skip
    processes.take_over(environment)
    storage.list_files(url)  # connect first: the race is for the name, not for the connection
    for race in range(races):
        barrier.wait()
        if storage.create(f"{url}/{race}", f"{me}".encode() * 10_000):
            wins.put((race, me))


@pytest.mark.parametrize(("count", "races"), [(3, 10), pytest.param(8, 200, marks=pytest.mark.long)])
def test_processes_race_for_one_name_after_the_other(count: int, races: int, prefix: str) -> None:
    context = processes.context()
    barrier, wins = context.Barrier(count), context.Queue()
    racers = [
        context.Process(target=_race, args=(prefix, me, races, barrier, wins, dict(os.environ))) for me in range(count)
    ]
    for racer in racers:
        racer.start()
    won = sorted(wins.get(timeout=120) for _ in range(races))
    for racer in racers:
        racer.join()
    assert wins.empty()
    assert [race for race, _ in won] == list(range(races))
    for race, winner in won:
        assert storage.read(f"{prefix}/{race}") == f"{winner}".encode() * 10_000


# --- settings and messages -----------------------------------------------------------------------------------------


def test_a_missing_bucket_is_said(gs_server: str) -> None:
    for ask in (storage.list_files, lambda url: storage.create(url, b"1")):
        with pytest.raises(FileNotFoundError, match=r"gs://no-such-bucket/x: no such bucket"):
            ask("gs://no-such-bucket/x")
    with pytest.raises(UserError, match=r"gs://no-such-bucket/x: cannot be written .*no such bucket"):
        storage.check_output("gs://no-such-bucket/x")


def test_without_gcsfs_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs.core", None)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")  # another client than the others have
    with pytest.raises(UserError, match=r"gs://b/x: gcsfs is not installed: pip install 'transdomain\[gcs\]'"):
        storage.read("gs://b/x")


def test_settings_of_the_user_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        fsspec.config.conf, "gs", {"requester_pays": "project", "session_kwargs": {"trust_env": False}, "token": "anon"}
    )
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", uuid.uuid4().hex)  # another client than the others have
    fs, _ = storage.filesystem("gs://b/x")
    assert fs._get_params({}) == {"userProject": "project"}
    assert fs.session_kwargs == {"trust_env": False, "auto_decompress": False}


def test_a_lasting_refusal_ends_with_the_name_and_the_truth_about_the_attempts(
    proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch, attempts=4, total_s=9, answer_s=9)
    proxy.when("GET", READ, lambda *_: faults.Answer(403, {}, b'{"error": {"message": "no access for you"}}'), times=9)
    with pytest.raises(StorageError, match=rf"{re.escape(prefix)}/x: 403: no access for you \(tried 4 times in"):
        storage.read(f"{prefix}/x")
    assert len(proxy.seen("GET", READ)) == 4


def _read_in_child(url: str) -> int:
    with contextlib.suppress(StorageError):
        return 0 if storage.read(url) == b"1" else 1
    return 2


def test_a_forked_process_has_storage_of_its_own(prefix: str) -> None:
    storage.create(f"{prefix}/x", b"1")
    child = os.fork()
    if child == 0:
        os._exit(_read_in_child(f"{prefix}/x"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
