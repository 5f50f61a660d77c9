"""Requests to Azure Blob Storage, by the protocol: a stand-in answers as Azure documents, and checks each signature."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from pipeline import errors, storage
from pipeline.errors import StorageError, UserError
from pipeline.storage import retry
from pipeline.storage.retry import Fault, Patience
from tests import azure
from tests.azure import Azure

PREFIX = f"az://{azure.CONTAINER}/in"


@pytest.fixture(scope="module")
def standing_server() -> Iterator[Azure]:
    with azure.serving() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def server(standing_server: Azure, monkeypatch: pytest.MonkeyPatch) -> Azure:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)
    standing_server.blobs.clear()
    standing_server.faults.clear()
    standing_server.requests.clear()
    return standing_server


def test_a_blob_is_created_once_read_replaced_and_removed(server: Azure) -> None:
    url = f"{PREFIX}/a"
    assert storage.create(url, b"first")
    assert not storage.create(url, b"second")
    assert storage.read(url) == b"first"
    entry = storage.stat_file(url)
    assert entry is not None
    with storage.open_read(url, entry) as file:
        file.seek(1)
        assert (file.read(2), file.read()) == (b"ir", b"st")
    assert 0 <= (storage.age_s(url, time.time()) or -1) < 60
    storage.replace(url, b"")
    assert storage.read(url) == b""
    with pytest.raises(StorageError, match=r"az://images/in/a: changed while it was read"):
        storage.read(url, version=entry.version)
    storage.delete(url)
    storage.delete(url)
    assert storage.stat_file(url) is None
    with pytest.raises(FileNotFoundError, match=r"az://images/in/a: no such blob"):
        storage.read(url)


def test_a_large_blob_is_one_request(server: Azure) -> None:
    data = os.urandom(1000) * 70_000
    assert storage.create(f"{PREFIX}/large", data)
    assert storage.read(f"{PREFIX}/large") == data
    assert [method for method, _ in server.requests] == ["PUT", "GET"]


@pytest.mark.parametrize("name", ["a b", "a%2Fb", "a+b", "ä/é", "a#1", "100%", "a&b<c", "x?y=z#q"])
def test_every_name_comes_back(server: Azure, name: str) -> None:
    url = storage.join(PREFIX, name)
    assert storage.create(url, name.encode())
    [entry] = storage.list_files(PREFIX)
    assert (entry.name, entry.url, storage.read(entry.url)) == (name, url, name.encode())
    assert storage.stat_file(url) == entry._replace(name=name.rpartition("/")[2])


def test_a_listing_goes_on_page_by_page_and_leaves_folders_out(server: Azure) -> None:
    for i in range(7):
        server.write(f"in/{i}/x", b"1" * i)
    server.write("in/0", b"", hdi_isfolder="true")
    server.write("inside", b"")
    server.faults.append(("GET", azure.refuse(500, "InternalError")))
    assert [(entry.name, entry.size) for entry in storage.list_files(PREFIX)] == [(f"{i}/x", i) for i in range(7)]
    assert len(server.requests) == 4
    assert storage.stat_file(f"{PREFIX}/0") is None


def test_check_output_leaves_nothing(server: Azure) -> None:
    storage.check_output(PREFIX)
    assert server.blobs == {}


def test_a_create_whose_answer_is_lost_is_one_whole_blob(server: Azure) -> None:
    server.faults.append(("PUT", azure.drop_answer))
    assert not storage.create(f"{PREFIX}/x", b"ours")
    assert storage.read(f"{PREFIX}/x") == b"ours"
    assert [method for method, _ in server.requests] == ["PUT", "PUT", "GET"]


FAULTS = {
    "busy": azure.refuse(503, "ServerBusy"),
    "timed out": azure.refuse(500, "OperationTimedOut"),
    "throttled": azure.refuse(429, "TooManyRequests"),
    "damaged on the way": azure.refuse(400, "Md5Mismatch"),
    "denied for a while": azure.refuse(403, "AuthenticationFailed"),
    "hangs": azure.hang,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD", "DELETE"])
def test_each_fault_is_met_by_one_more_request(
    server: Azure, fault: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "hangs":
        monkeypatch.setattr(retry, "ANSWER_S", 0.3)
    server.write("in/x", b"there")
    server.faults.append((method, FAULTS[fault]))
    operations = {
        "PUT": lambda: storage.create(f"{PREFIX}/y", b"new"),
        "GET": lambda: storage.read(f"{PREFIX}/x") == b"there",
        "HEAD": lambda: storage.stat_file(f"{PREFIX}/x") is not None,
        "DELETE": lambda: storage.delete(f"{PREFIX}/x") is None,
    }
    assert operations[method]()
    assert [each for each, _ in server.requests] == [method, method]


def test_412_and_409_both_say_that_the_name_is_taken(server: Azure) -> None:
    for answer in (azure.refuse(412, "ConditionNotMet"), azure.refuse(409, "BlobAlreadyExists")):
        server.faults.append(("PUT", answer))
        assert not storage.create(f"{PREFIX}/x", b"new")


@pytest.mark.parametrize("code", ["BlobImmutableDueToPolicy", "ContainerBeingDeleted"])
def test_another_conflict_is_no_lost_race(server: Azure, code: str) -> None:
    server.faults.append(("PUT", azure.refuse(409, code)))
    with pytest.raises(StorageError, match=rf"az://images/in/x: 409 {code}: said the stand-in"):
        storage.create(f"{PREFIX}/x", b"new")


def test_one_of_eight_threads_wins(server: Azure) -> None:
    barrier, won = threading.Barrier(8), list[int]()

    def attempt(me: int) -> None:
        barrier.wait()
        if storage.create(f"{PREFIX}/race", f"{me}".encode()):
            won.append(me)

    threads = [threading.Thread(target=attempt, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read(f"{PREFIX}/race") == f"{won[0]}".encode()


def test_a_server_that_does_not_answer_is_given_up(server: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PATIENCE", dict.fromkeys(Fault, Patience(2, 9)))
    monkeypatch.setattr(retry, "ANSWER_S", 0.2)
    server.faults += [("PUT", azure.hang)] * 2
    begun, before = time.monotonic(), server.connections
    with pytest.raises(StorageError, match=r"x: nothing was sent or answered for 0.2 s \(tried 2 times in [0-2] s"):
        storage.create(f"{PREFIX}/x", b"1" * 5_000_000)
    assert time.monotonic() - begun < 3
    assert server.connections - before <= 2


def test_a_missing_container_is_said(server: Azure) -> None:
    with pytest.raises(FileNotFoundError, match=r"az://nothing/x: no such container"):
        storage.list_files("az://nothing/x")


def test_a_key_is_in_no_message(server: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PATIENCE", dict.fromkeys(Fault, Patience(1, 9)))
    server.faults.append(("GET", azure.refuse(403, "AuthenticationFailed")))
    with pytest.raises(StorageError, match="403 AuthenticationFailed") as raised:
        storage.read(f"{PREFIX}/x")
    assert azure.KEY not in errors.one_line(raised.value)
    text = os.environ["AZURE_STORAGE_CONNECTION_STRING"]
    assert azure.KEY not in errors.redact(f"cannot use {text}")


def test_without_an_account_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING", raising=False)
    monkeypatch.setenv("AZURE_STORAGE_ANON", "true")
    with pytest.raises(UserError, match=r"az://images/x: .*AZURE_STORAGE_ACCOUNT_NAME"):
        storage.read("az://images/x")


def test_without_adlfs_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adlfs", None)
    monkeypatch.setenv("AZURE_STORAGE_ANON", "1")  # another client than the others have
    with pytest.raises(UserError, match=r"az://b/x: adlfs is not installed: pip install 'transdomain\[azure\]'"):
        storage.read("az://b/x")
