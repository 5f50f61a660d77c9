"""Requests to a real S3 server through a proxy that loses answers, damages bodies, refuses for a while and hangs."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import storage
from pipeline.errors import DamagedError, StorageError, UserError
from pipeline.storage import client, retry, s3
from pipeline.storage.retry import Fault, Patience
from pipeline.stores import open_store, read_rows
from pipeline.stores.forms.shard import encode_shard
from pipeline.stores.forms.survey import read_footer
from pipeline.stores.tables.schema import image_array
from tests import proxy as faults
from tests import seaweed
from tests.proxy import Proxy


@pytest.fixture(scope="module")
def standing_proxy(s3_server: str) -> Iterator[Proxy]:
    with pytest.MonkeyPatch.context() as patch, faults.between(s3_server, patch) as between:
        storage.exists(f"s3://{seaweed.BUCKET}")
        yield between


@pytest.fixture
def proxy(standing_proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(retry, "MAX_WAIT_S", 0.05)
    standing_proxy.forget()
    yield standing_proxy
    standing_proxy.forget()


@pytest.fixture
def prefix(proxy: Proxy) -> str:
    return f"s3://{seaweed.BUCKET}/{uuid.uuid4().hex[:12]}"


def _impatient(monkeypatch: pytest.MonkeyPatch, *, attempts: int, total_s: float, answer_s: float) -> None:
    monkeypatch.setattr(retry, "PATIENCE", dict.fromkeys(Fault, Patience(attempts, total_s)))
    monkeypatch.setattr(retry, "ANSWER_S", answer_s)


# --- lost answers --------------------------------------------------------------------------------------------------


def test_a_first_write_whose_answer_is_lost_does_not_make_a_server_unfit(proxy: Proxy, prefix: str) -> None:
    proxy.when("PUT", "probe", faults.drop_answer)
    storage.check_output(prefix)
    assert not storage.list_files(prefix)


def test_a_server_that_ignores_the_condition_is_refused(proxy: Proxy, prefix: str) -> None:
    proxy.when("PUT", "probe", faults.ignore_condition, times=9)
    with pytest.raises(UserError, match="ignores If-None-Match"):
        storage.check_output(prefix)


@pytest.mark.parametrize("size", [10, 106_000_000])
def test_a_create_whose_answer_is_lost_is_one_whole_object(proxy: Proxy, prefix: str, size: int) -> None:
    """s3fs sends the larger body in parts, whose completion not every server makes conditional."""
    url, data = f"{prefix}/x", os.urandom(1000) * (size // 1000) or b"0123456789"
    proxy.when("PUT POST", "x", faults.drop_answer)
    assert not storage.create(url, data)
    assert storage.read(url) == data
    assert not storage.create(url, b"other")
    assert not [r for r in proxy.requests if r.method == "POST"]
    assert len(proxy.seen("PUT", "x")) == 3


@pytest.mark.parametrize("size", [10, 5_000_000])
@pytest.mark.parametrize("fault", [lambda request, server: None, faults.refuse(503, "SlowDown"), faults.hang])
def test_a_write_that_never_came_is_written_whole_the_next_time(
    proxy: Proxy, prefix: str, fault: faults.Fault, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch, attempts=4, total_s=9, answer_s=1)
    proxy.when("PUT", "x", fault, times=2)
    data = os.urandom(size)
    assert storage.create(f"{prefix}/x", data)
    assert storage.read(f"{prefix}/x") == data


def test_a_replacement_whose_answer_is_lost_is_written_again(proxy: Proxy, prefix: str) -> None:
    proxy.when("PUT", "x", faults.drop_answer, times=2)
    storage.replace(f"{prefix}/x", b"new")
    assert storage.read(f"{prefix}/x") == b"new"


def test_what_is_too_large_for_one_request_is_refused_by_name(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "MOST_BYTES", 10)
    with pytest.raises(StorageError, match=rf"{prefix}/x: 11 bytes.*smaller shards"):
        storage.create(f"{prefix}/x", b"x" * 11)


# --- damaged bodies ------------------------------------------------------------------------------------------------

DAMAGES = {
    "cut off": faults.cut(0.5),
    "short, checksums stripped": faults.shorten(0.5),
    "flipped": faults.flip(0.5, strip=False),
    "flipped, checksums stripped": faults.flip(0.5),
    "429": faults.refuse(429, "TooManyRequests"),
    "403": faults.refuse(403, "AccessDenied"),
    "skewed": faults.refuse(403, "RequestTimeTooSkewed"),
    "expired": faults.refuse(400, "ExpiredToken"),
    "502": lambda request, server: faults.Answer(502, {"Content-Type": "text/html"}, b"<html>Bad Gateway"),
    "lost": faults.drop_answer,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_body_that_comes_damaged_is_read_again(proxy: Proxy, prefix: str, damage: str) -> None:
    storage.replace(f"{prefix}/x", b"0123456789" * 1000)
    proxy.when("GET", "x", DAMAGES[damage], times=2)
    assert storage.read(f"{prefix}/x", size=10_000) == b"0123456789" * 1000


def test_a_body_that_stays_short_is_an_error_that_names_the_object_and_not_the_image(
    proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch, attempts=3, total_s=9, answer_s=9)
    storage.replace(f"{prefix}/x.jpg", b"0123456789" * 1000)
    store = open_store(prefix)
    proxy.when("GET", "x", faults.shorten(0.9), times=99)
    with pytest.raises(DamagedError, match=r"x.jpg: read 9000 bytes of 10000 \(tried 3 times in 0 s\)"):
        read_rows(store.ranges)


def test_a_server_whose_etags_are_no_md5_sums_is_believed(
    proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_no_md5", set())
    monkeypatch.setattr(s3, "_SAME_SUMS", 3)

    def other_etag(request: faults.Request, server: faults.Server) -> faults.Answer:
        answer = server(request)
        return answer._replace(headers=answer.headers | {"Etag": f'"{"0123456789abcdef" * 2}"'})

    storage.replace(f"{prefix}/x", b"data")
    proxy.when("GET", "x", other_etag, times=99)
    assert storage.read(f"{prefix}/x") == b"data"
    assert storage.read(f"{prefix}/x") == b"data"
    assert len(proxy.seen("GET", "x")) == s3._SAME_SUMS + 1


def test_an_object_that_is_replaced_while_it_is_read_is_said(proxy: Proxy, prefix: str) -> None:
    storage.replace(f"{prefix}/x", b"old")
    entry = storage.stat_file(f"{prefix}/x")
    assert entry is not None
    storage.replace(f"{prefix}/x", b"new")
    with pytest.raises(StorageError, match=f"{prefix}/x: changed while it was read"):
        storage.read(f"{prefix}/x", version=entry.version)


# --- ranges --------------------------------------------------------------------------------------------------------


def _shard(rows: int = 40) -> tuple[pa.Table, bytes]:
    random = np.random.default_rng(0)
    data = [random.bytes(20_000) for _ in range(rows)]
    table = pa.table({"key": [f"{i:03d}" for i in range(rows)], "image": image_array(data, ["x"] * rows)})
    return table, encode_shard(table, {"account": "a" * 100})


@pytest.mark.parametrize("damage", [*DAMAGES, "no ranges"])
def test_a_range_that_comes_damaged_is_read_again(proxy: Proxy, prefix: str, damage: str) -> None:
    table, data = _shard()
    storage.create(f"{prefix}/s.parquet", data)
    store = open_store(prefix)
    proxy.when("GET", "s.parquet", faults.ignore_range if damage == "no ranges" else DAMAGES[damage], times=3)
    rows = read_rows(store.ranges)
    assert rows["image"].combine_chunks().equals(table["image"].combine_chunks())


@pytest.mark.parametrize("at", [0.01, 0.5, 0.9, 0.99])
def test_a_footer_that_comes_damaged_is_read_again(proxy: Proxy, prefix: str, at: float) -> None:
    _, data = _shard(2)
    storage.create(f"{prefix}/s.parquet", data)
    proxy.when("GET", "s.parquet", faults.flip(at), times=1)
    entry = storage.stat_file(f"{prefix}/s.parquet")
    assert entry
    footer = read_footer(entry)
    assert (footer.num_rows, footer.metadata[b"account"]) == (2, b"a" * 100)


def test_a_shard_that_is_damaged_itself_fails_by_name_and_gives_no_pixels(
    proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch, attempts=3, total_s=9, answer_s=9)
    _, data = _shard()
    harmed = bytearray(data)
    harmed[len(data) // 2] ^= 1
    storage.create(f"{prefix}/s.parquet", bytes(harmed))
    store = open_store(prefix)
    with pytest.raises(DamagedError, match=rf"{prefix}/s.parquet: OSError: .*CRC.*tried 3 times"):
        read_rows(store.ranges)


def test_no_bit_of_a_page_can_change_unseen() -> None:
    _, data = _shard(4)
    footer = int.from_bytes(data[-8:-4], "little") + 8
    for at in np.random.default_rng(1).integers(4, len(data) - footer, 50).tolist():
        harmed = bytearray(data)
        harmed[at] ^= 1
        with pytest.raises(OSError, match=r"CRC|deserialize|checksum"):
            pq.ParquetFile(io.BytesIO(bytes(harmed)), page_checksum_verification=True).read()


# --- time ----------------------------------------------------------------------------------------------------------


def test_a_server_that_is_busy_for_a_while_is_waited_for(proxy: Proxy, prefix: str) -> None:
    proxy.when("GET PUT HEAD", "", faults.refuse(429, "TooManyRequests"), times=1e9, for_s=0.7)
    storage.create(f"{prefix}/x", b"1")
    assert storage.read(f"{prefix}/x") == b"1"


def test_a_lasting_refusal_ends_with_the_name_and_the_truth_about_the_attempts(
    proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch, attempts=4, total_s=9, answer_s=9)
    storage.create(f"{prefix}/x", b"1")
    proxy.when("GET", "x", faults.refuse(403, "AccessDenied"), times=1e9)
    with pytest.raises(StorageError, match=rf"{prefix}/x: PermissionError: said the proxy \(tried 4 times in"):
        storage.read(f"{prefix}/x")
    assert len(proxy.seen("GET", "x")) == 4


OPERATIONS: dict[str, Callable[[str], object]] = {
    "read": storage.read,
    "stat": storage.stat_file,
    "list": storage.list_files,
    "create": lambda url: storage.create(url, b"1"),
    "create, large": lambda url: storage.create(url, b"1" * 30_000_000),
    "replace": lambda url: storage.replace(url, b"1"),
    "delete": storage.delete,
    "uploads": storage.list_unfinished_uploads,
}


@pytest.mark.parametrize("how", ["hangs", "closes"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_server_that_does_not_answer_ends_each_attempt_and_leaves_the_rest_usable(
    proxy: Proxy, prefix: str, operation: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch, attempts=2, total_s=9, answer_s=0.2)
    cut_or_hang = faults.hang if how == "hangs" else lambda *_: None
    proxy.when("GET PUT HEAD DELETE POST", "", cut_or_hang, times=1e9, for_s=20)
    begun, before = time.monotonic(), proxy.connections
    with pytest.raises(StorageError, match=r"tried 2 times in [0-2] s"):
        OPERATIONS[operation](f"{prefix}/x")
    assert time.monotonic() - begun < 5
    assert proxy.connections - before <= 2
    assert len(proxy.requests) <= 2
    proxy.forget()
    assert OPERATIONS["create"](f"{prefix}/y")


def test_a_body_that_stops_on_the_way_ends_its_attempt(
    s3_server: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch, attempts=1, total_s=9, answer_s=0.3)
    with socket.socket() as still:
        still.bind(("127.0.0.1", 0))
        still.listen()
        threading.Thread(target=_continue, args=(still,), daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{still.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(StorageError, match=r"x: nothing was sent or answered for 0.3 s \(tried once"):
            storage.replace(f"{prefix}/x", b"1" * 50_000_000)
        assert time.monotonic() - begun < 5


def _continue(listening: socket.socket) -> None:
    """Ask for the body and read nothing of it."""
    connection, _ = listening.accept()
    connection.recv(9)
    connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    time.sleep(9)


@pytest.mark.parametrize("kind", ["refused", "hangs"])
def test_preflight_of_a_dead_endpoint_ends_within_seconds(
    kind: str, prefix: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_ANSWER_S", 0.3)
    monkeypatch.setattr(retry, "FIRST_PATIENCE", retry.FIRST_PATIENCE | {Fault.SILENT: Patience(4, 0.5)})
    proxy.when("GET PUT HEAD", "", faults.hang if kind == "hangs" else lambda *_: None, times=1e9)
    begun = time.monotonic()
    with retry.first_answer_soon(), pytest.raises(UserError, match=r"cannot be written .*tried"):
        storage.check_output(prefix)
    assert time.monotonic() - begun < 3


def test_a_server_that_has_answered_is_given_the_longer_patience(proxy: Proxy, prefix: str) -> None:
    with retry.first_answer_soon():
        assert retry.answer_s(prefix) == retry.FIRST_ANSWER_S
        storage.create(f"{prefix}/x", b"1")
        assert retry.answer_s(prefix) == retry.ANSWER_S


def test_a_listing_is_tried_again_page_by_page(proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        storage.create(f"{prefix}/{i}", b"1")
    whole = s3._below
    monkeypatch.setattr(s3, "_below", lambda fs, path: (whole(fs, path)[0] | {"MaxKeys": 2}, seaweed.BUCKET))
    proxy.requests.clear()
    proxy.when("GET", "", faults.drop_answer, times=1)
    assert [entry.name for entry in storage.list_files(prefix)] == ["0", "1", "2", "3", "4"]
    assert len(proxy.seen("GET")) == 4


# --- unfinished uploads --------------------------------------------------------------------------------------------


def test_uploads_of_a_killed_process_are_listed_and_removed(s3_server: str, proxy: Proxy, prefix: str) -> None:
    bucket, _, key = prefix.removeprefix("s3://").partition("/")
    script = (
        "import fsspec, sys, time\n"
        f"fs = fsspec.filesystem('s3', key='{seaweed.KEY}', secret='{seaweed.SECRET}', endpoint_url='{s3_server}')\n"
        f"upload = fs.call_s3('create_multipart_upload', Bucket='{bucket}', Key='{key}/data/large')['UploadId']\n"
        f"fs.call_s3('upload_part', Bucket='{bucket}', Key='{key}/data/large', UploadId=upload, PartNumber=1,\n"
        "           Body=b'1' * 6_000_000)\n"
        "print('half', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "half\n"
        os.kill(writer.pid, signal.SIGKILL)
    found = storage.list_unfinished_uploads(prefix)
    assert [(upload.name, upload.url) for upload in found] == [("data/large", f"{prefix}/data/large")]
    assert abs(time.time() - found[0].started) < 300
    assert not storage.list_files(prefix)
    assert storage.list_unfinished_uploads(f"{prefix}/dat") == []
    storage.abort_upload(found[0])
    storage.abort_upload(found[0])
    assert storage.list_unfinished_uploads(prefix) == []


def test_other_places_have_no_uploads(tmp_path: object) -> None:
    assert storage.list_unfinished_uploads(str(tmp_path)) == []


# --- messages ------------------------------------------------------------------------------------------------------


def test_an_answer_without_a_name_is_given_one(proxy: Proxy) -> None:
    with pytest.raises(FileNotFoundError, match=r"s3://no-such-bucket/x: "):
        storage.read("s3://no-such-bucket/x")


def test_missing_credentials_are_said_of_the_object(proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StorageError, match=rf"{re.escape(prefix)}/x: NoCredentialsError"):
        storage.read(f"{prefix}/x")


def test_credentials_that_change_in_their_file_are_found(
    proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "credentials"
    wrong = f"[default]\naws_access_key_id = {seaweed.KEY}\naws_secret_access_key = wrong\n"
    file.write_text(wrong)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setattr(client, "_RENEW_S", 0.0)
    _impatient(monkeypatch, attempts=2, total_s=9, answer_s=9)
    with pytest.raises(StorageError, match=r"x: PermissionError: .* \(tried 2 times"):
        storage.create(f"{prefix}/x", b"1")
    file.write_text(wrong.replace("wrong", seaweed.SECRET))
    assert storage.create(f"{prefix}/x", b"1")


def test_settings_of_the_user_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "config_kwargs": {"read_timeout": 7, "s3": {"addressing_style": "path"}, "retries": {"max_attempts": 9}}
    }
    monkeypatch.setitem(fsspec.config.conf, "s3", settings)
    config = client.options()["config_kwargs"]
    assert (config["read_timeout"], config["s3"]) == (7, {"addressing_style": "path"})
    assert config["retries"]["total_max_attempts"] == 1


def _read_in_child(url: str) -> int:
    with contextlib.suppress(StorageError):
        return 0 if storage.read(url) == b"1" else 1
    return 2


def test_a_forked_process_has_storage_of_its_own(proxy: Proxy, prefix: str) -> None:
    storage.create(f"{prefix}/x", b"1")
    child = os.fork()
    if child == 0:
        os._exit(_read_in_child(f"{prefix}/x"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
