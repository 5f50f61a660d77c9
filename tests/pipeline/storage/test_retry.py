from __future__ import annotations

import contextlib
import errno
import time

import pytest
import tenacity.nap

from pipeline.errors import DamagedError, StorageError
from pipeline.storage import retry
from pipeline.storage.retry import Fault, fault_of


class _Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        patch.setattr(tenacity.nap.time, "sleep", self._sleep)
        patch.setattr(time, "monotonic", lambda: self.now)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("away_s", [10, 60, 75])
def test_a_server_that_is_away_for_a_minute_fails_nothing(away_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock(monkeypatch)

    def action() -> float:
        if clock.now < away_s:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        return clock.now

    assert retry.retrying(action, "s3://b/k") < away_s + retry.MAX_WAIT_S


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("attempt_s", [0.0, 5.0, 30.0])
def test_a_server_that_stays_away_is_given_up_in_bounded_time(
    attempt_s: float, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = _Clock(monkeypatch)

    def action() -> None:
        clock.now += attempt_s
        raise TimeoutError

    patience = (retry.FIRST_PATIENCE if first else retry.PATIENCE)[Fault.SILENT]
    with (
        retry.first_answer_soon() if first else contextlib.nullcontext(),
        pytest.raises(StorageError, match="s3://b/k: no answer in time"),
    ):
        retry.retrying(action, "s3://b/k")
    assert clock.now <= patience.total_s + attempt_s


def test_a_fault_of_a_disk_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock(monkeypatch)

    def fail() -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(StorageError, match=r"/disk/x: .*\(tried 6 times in"):
        retry.retrying(fail, "/disk/x")
    assert clock.now <= retry.DISK_PATIENCE.total_s


@pytest.mark.parametrize("inner", [StorageError("s3://b/k: no answer"), DamagedError("s3://b/k: short")])
def test_what_was_tried_already_is_not_tried_again(inner: StorageError) -> None:
    inner.__cause__ = ConnectionResetError("peer")
    assert fault_of(inner, "s3://b/k") is None


@pytest.mark.parametrize(
    ("code", "status", "fault"),
    [
        ("SlowDown", 503, Fault.BUSY),
        ("503", 503, Fault.BUSY),
        ("429", 429, Fault.BUSY),
        ("RequestTimeout", 400, Fault.BUSY),
        ("BadDigest", 400, Fault.DAMAGED),
        ("AccessDenied", 403, Fault.DENIED),
        ("403", 403, Fault.DENIED),
        ("ExpiredToken", 400, Fault.DENIED),
        ("NoSuchKey", 404, None),
        ("NotImplemented", 501, None),
        ("PreconditionFailed", 412, None),
        ("InvalidBucketName", 400, None),
    ],
)
def test_answers_that_pass(code: str, status: int, fault: Fault | None) -> None:
    error = OSError("said the server")
    error.__cause__ = type("ClientError", (Exception,), {})()
    error.__cause__.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}  # type: ignore[union-attr]
    assert fault_of(error, "s3://b/k") is fault


def test_a_refusal_by_a_disk_is_an_answer() -> None:
    assert fault_of(PermissionError(errno.EACCES, "Permission denied", "/x"), "/x") is None
