"""Retry policy of the whole package: which faults pass, how often and how long to retry, and the final message.

The libraries below (s3fs and botocore, gcsfs, adlfs) never retry by themselves: the attempts counted here are all that
happen.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import urlsplit

from pipeline.errors import DamagedError, StorageError, UserError, redact
from pipeline.storage.clouds.base import SLOWEST_BYTES_PER_S, BadBody, RefusedError

if TYPE_CHECKING:
    import tenacity

__all__ = ["SLOWEST_BYTES_PER_S", "BadBody"]

T = TypeVar("T")


class Fault(enum.Enum):
    """Faults that may pass, by cause."""

    SILENT = "no answer"
    BUSY = "an answer that asks for patience, or a server's own failure"
    DAMAGED = "a body that is not what the server has"
    UNREADABLE = "bytes that their decoder cannot read, for which mostly nobody can be blamed but who wrote them"
    DENIED = "an answer that refuses us, as it does for a while where credentials or clocks change"


class Patience(NamedTuple):
    """Limits at which retries end."""

    attempts: int
    """Number of attempts that may end in this fault."""
    total_s: float
    """Seconds after the first attempt beyond which no other one begins."""


PATIENCE = {
    Fault.SILENT: Patience(30, 120),  # a server restart within a minute causes no failure
    Fault.BUSY: Patience(30, 120),
    Fault.DAMAGED: Patience(12, 60),
    Fault.UNREADABLE: Patience(5, 30),
    Fault.DENIED: Patience(10, 30),
}
FIRST_PATIENCE = PATIENCE | {Fault.SILENT: Patience(4, 3.5), Fault.DENIED: Patience(4, 3.5)}
"""Patience for a user at the terminal until a server first answers: a wrong address is reported in seconds."""
DISK_PATIENCE = Patience(6, 20)

ANSWER_S, FIRST_ANSWER_S = 30.0, 4.0
"""Seconds after the server's last sign of life at which an attempt ends."""
FIRST_WAIT_S, MAX_WAIT_S = 0.2, 8.0
"""Seconds of the first wait and of the longest; waits double in between, and each is randomly cut by up to a half."""

_BUSY_CODES = {
    "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "ThrottlingException", "Throttling",
    "RequestLimitExceeded", "TooManyRequests", "TooManyRequestsException", "RequestThrottled", "BandwidthLimitExceeded",
    "OperationAborted", "ConditionalRequestConflict", "408", "409", "429",
}  # fmt: skip
_DAMAGED_CODES = {
    "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "Md5Mismatch",
}  # fmt: skip
_DENIED_CODES = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired", "InvalidToken"}
_SILENT_ERRNOS = {
    errno.EIO, errno.EBUSY, errno.EAGAIN, errno.ECONNRESET, errno.ECONNREFUSED, errno.ETIMEDOUT, errno.ENETUNREACH,
    errno.EHOSTUNREACH,
}  # fmt: skip
_SILENT_NAMES = {
    "EndpointConnectionError", "ConnectionClosedError", "ReadTimeoutError", "ConnectTimeoutError", "HTTPClientError",
    "ProxyConnectionError", "ClientConnectionError", "ServerDisconnectedError", "ClientOSError", "ClientConnectorError",
    "ClientConnectorDNSError", "TransportError", "ServiceRequestError", "ServiceResponseError",
    "ServiceRequestTimeoutError", "ServiceResponseTimeoutError",
}  # fmt: skip
_DAMAGED_NAMES = {
    "BadBody", "FlexibleChecksumError", "ResponseStreamingError", "ResponseParserError", "ClientPayloadError",
    "IncompleteRead", "IncompleteReadError",
}  # fmt: skip
_DENIED_NAMES = {"RefreshError", "HttpError", "ClientAuthenticationError", "CredentialUnavailableError"}
"""Errors of the lookup of credentials, of gcsfs and google-auth, and of azure-identity."""


class _Hurry:
    """State of this process: is a user waiting, and which servers have answered since."""

    wanted = False
    answered: set[str] = set()  # noqa: RUF012


@contextlib.contextmanager
def first_answer_soon() -> Iterator[None]:
    """Give a server that has never answered seconds instead of minutes, within this process."""
    _Hurry.wanted, _Hurry.answered = True, set()
    try:
        yield
    finally:
        _Hurry.wanted = False


def answer_s(url: str) -> float:
    """Return the seconds without a sign of life from the server of `url` after which an attempt ends."""
    return FIRST_ANSWER_S if _is_first(url) else ANSWER_S


def retrying(action: Callable[[], T], url: str, renew: Callable[[], None] | None = None) -> T:
    """Run `action`, and retry it with backoff for faults of network or server; after a refusal, call `renew` first.

    `action` has to end by itself, within about `answer_s(url)`. FileNotFoundError, FileExistsError and a disk's
    PermissionError are answers, not faults, and are raised unchanged. Raises StorageError naming `url` once patience
    runs out: DamagedError where the content stays damaged.
    """
    begun = time.monotonic()
    try:
        result = action()
    except Exception as error:
        if fault_of(error, url) is None:
            raise _named(error, url) from error.__cause__
        result = _retried(action, url, renew, error, begun)
    if _Hurry.wanted:
        _Hurry.answered.add(urlsplit(url).netloc)
    return result


def _retried(action: Callable[[], T], url: str, renew: Callable[[], None] | None, first: Exception, begun: float) -> T:
    """Go on with an `action` whose `first` attempt, which began at `begun`, has failed."""
    import tenacity

    faults, failed = Counter[Fault](), [first]

    def attempt() -> T:
        if failed:
            raise failed.pop()
        return action()

    def stop(state: tenacity.RetryCallState) -> bool:
        fault = fault_of(_error_of(state), url)
        assert fault is not None
        if not _is_remote(url):
            patience = DISK_PATIENCE if fault is Fault.SILENT else Patience(1, 0)
        else:
            patience = (FIRST_PATIENCE if _is_first(url) else PATIENCE)[fault]
        elapsed = time.monotonic() - begun
        faults[fault] += 1
        return faults[fault] >= patience.attempts or elapsed + state.upcoming_sleep > patience.total_s

    def wait(state: tenacity.RetryCallState) -> float:
        return random.uniform(0.5, 1) * min(MAX_WAIT_S, FIRST_WAIT_S * 2.0 ** (state.attempt_number - 1))

    def before_sleep(state: tenacity.RetryCallState) -> None:
        if renew is not None and fault_of(_error_of(state), url) is Fault.DENIED:
            renew()

    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: fault_of(error, url) is not None),
        wait=wait,
        stop=stop,
        before_sleep=before_sleep,
        reraise=True,
    )
    try:
        return attempts(attempt)
    except Exception as error:
        fault = fault_of(error, url)
        if fault is None:
            raise _named(error, url) from error.__cause__
        tries = attempts.statistics["attempt_number"]
        seconds = f"{time.monotonic() - begun:.0f} s"
        times = f"{tries} times in {seconds}" if tries > 1 else "once" if seconds == "0 s" else f"once, for {seconds}"
        kind = DamagedError if fault in (Fault.DAMAGED, Fault.UNREADABLE) else StorageError
        raise kind(redact(f"{url}: {_said(error)} (tried {times})")) from error


@contextlib.contextmanager
def preflight(url: str) -> Iterator[None]:
    """Turn errors of checks made before any work into UserError, since the user has to fix them.

    Raises UserError for the errors of storage and formats; an OSError that does not name `url` gets it added.
    """
    try:
        yield
    except (ValueError, StorageError) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(str(error) if url in str(error) else f"{url}: {error}") from error


def fault_of(error: BaseException, url: str) -> Fault | None:
    """Return the fault behind an error of one attempt, or None where a retry cannot help."""
    if isinstance(error, StorageError | UserError):
        return None  # retried already
    for cause in causes(error):
        if isinstance(cause, FileNotFoundError | FileExistsError | IsADirectoryError | NotADirectoryError):
            return None
        code = error_code(cause)
        if code is not None:
            return _fault_of_answer(cause, code)
        name = type(cause).__name__
        if name == "ArrowInvalid":
            return Fault.UNREADABLE
        if name in _DAMAGED_NAMES:
            return Fault.DAMAGED
        if isinstance(cause, ConnectionError | TimeoutError) or name in _SILENT_NAMES:
            return Fault.SILENT
        if name in _DENIED_NAMES:
            return Fault.DENIED
    if isinstance(error, PermissionError) and error.errno is None:
        return Fault.DENIED if _is_remote(url) else None
    if isinstance(error, OSError) and error.errno in _SILENT_ERRNOS:
        return Fault.SILENT
    return Fault.UNREADABLE if type(error) is OSError and error.errno is None else None  # Arrow's own have no number


def _fault_of_answer(error: BaseException, code: str) -> Fault | None:
    status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code in _DAMAGED_CODES:
        return Fault.DAMAGED
    if code in _DENIED_CODES or status in (401, 403) or code in ("401", "403"):
        return Fault.DENIED
    is_failure = (isinstance(status, int) and status >= 500) or (code.isdigit() and int(code) >= 500)
    if code in _BUSY_CODES or status in (408, 429) or (is_failure and code not in ("NotImplemented", "501")):
        return Fault.BUSY
    return None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield `error`, its cause, the cause of that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def error_code(error: BaseException) -> str | None:
    """Return the code of an object store's answer where `error` is one, else None."""
    response = getattr(error, "response", None)
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None


def _error_of(state: tenacity.RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome else None
    assert error is not None
    return error


def _said(error: BaseException) -> str:
    text = " ".join(next(filter(None, map(str, causes(error))), "").split())
    if isinstance(error, BadBody | RefusedError):
        return text
    if isinstance(error, TimeoutError):
        return text or "no answer in time"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _named(error: Exception, url: str) -> Exception:
    """Return a server's answer with the name of its object; an error that already names its object is unchanged."""
    if not _is_remote(url) or url in str(error):
        return error
    if type(error).__module__.startswith(("botocore.", "pipeline.storage.clouds.")):
        return StorageError(redact(f"{url}: {_said(error)}"))
    if isinstance(error, OSError) and error.filename is None:
        text = error.strerror or str(error)
        return type(error)(*filter(None, [error.errno]), redact(f"{url}: {text}"))
    return error


def _is_remote(url: str) -> bool:
    return urlsplit(url).scheme not in ("", "file", "local", "memory")


def _is_first(url: str) -> bool:
    return _Hurry.wanted and urlsplit(url).netloc not in _Hurry.answered
