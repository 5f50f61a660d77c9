"""Weights from another machine are fetched once and kept, and never taken for others."""

from __future__ import annotations

import os
import threading
import time
import uuid
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.errors import StorageError
from pipeline.models import cache
from pipeline.models.cache import cache_folder, read_weights
from tests import seaweed


@pytest.fixture
def s3_prefix(s3_server: str) -> str:
    return f"s3://{seaweed.BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Return the URLs that were fetched from elsewhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fetched, read = list[str](), storage.read

    def counted(url: str, **known: object) -> bytes:
        if not storage.is_local(url):
            fetched.append(url)
            time.sleep(0.1)
        return read(url, **known)  # type: ignore[arg-type]

    monkeypatch.setattr(storage, "read", counted)
    return fetched


def test_weights_on_s3_are_fetched_once_by_all_who_need_them(s3_prefix: str, read: list[str]) -> None:
    url = storage.join(s3_prefix, "weights")
    storage.replace(url, b"one")
    found = list[bytes]()
    threads = [threading.Thread(target=lambda: found.append(read_weights(url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"one"] * 4
    assert read == [url]
    storage.replace(url, b"two")
    assert read_weights(url) == b"two", "what has changed there is fetched again"
    assert len(read) == 2


def test_what_is_damaged_or_old_is_fetched_again(s3_prefix: str, read: list[str]) -> None:
    url = storage.join(s3_prefix, "weights")
    storage.replace(url, b"good")
    assert read_weights(url) == b"good"
    (kept,) = (path for path in Path(cache_folder("weights")).iterdir() if path.suffix != ".lock")
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    assert read_weights(url) == b"good"
    assert len(read) == 2
    os.utime(kept, (0, time.time() - cache._KEEP_S - 1))
    other = storage.join(s3_prefix, "other")
    storage.replace(other, b"good")
    assert read_weights(other) == b"good"
    assert not kept.exists()


def test_a_disk_that_is_full_keeps_nothing_and_costs_nothing(
    s3_prefix: str, read: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = storage.join(s3_prefix, "weights")
    storage.replace(url, b"good")

    def refuse(url: str, data: bytes) -> None:
        raise StorageError(f"{url}: No space left on device")

    monkeypatch.setattr(storage, "replace", refuse)
    caplog.set_level("INFO")
    assert read_weights(url) == b"good"
    assert "is not kept on this machine" in caplog.text


def test_what_is_on_this_machine_is_read_where_it_is(tmp_path: Path, read: list[str]) -> None:
    (tmp_path / "weights").write_bytes(b"here")
    assert read_weights(str(tmp_path / "weights")) == b"here"
    assert not (tmp_path / "cache").exists()
    with pytest.raises(FileNotFoundError):
        read_weights(str(tmp_path / "none"))
