"""The one retry policy: what is a passing fault, how often and how long to try again, and what is said at the end."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from typing import TypeVar

import tenacity

from pipeline.errors import StorageError, UserError, redact

T = TypeVar("T")

RETRY_ATTEMPTS = 6
RETRY_MAX_WAIT_S = 8.0

_TRANSIENT_CODES = {
    "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "ThrottlingException", "OperationAborted",
    "ConditionalRequestConflict", "500", "502", "503", "504",
}  # fmt: skip
_TRANSIENT_ERRNOS = {errno.EIO, errno.EBUSY, errno.EAGAIN, errno.ECONNRESET, errno.ECONNREFUSED, errno.ETIMEDOUT}
_TRANSIENT_NAMES = {
    "EndpointConnectionError", "ConnectionClosedError", "ReadTimeoutError", "ConnectTimeoutError", "HTTPClientError",
    "ResponseStreamingError", "ClientConnectionError", "ServerDisconnectedError", "ClientPayloadError",
    "ClientOSError", "IncompleteRead", "IncompleteReadError",
}  # fmt: skip


def retrying(action: Callable[[], T], url: str) -> T:
    """Run `action`, again with jittered exponential backoff while the network or the server is at fault.

    Raises FileNotFoundError, FileExistsError and PermissionError as they come (they are answers, not faults) and
    StorageError naming `url` once the attempts are used up.
    """
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=RETRY_MAX_WAIT_S),
        stop=tenacity.stop_after_attempt(RETRY_ATTEMPTS),
        reraise=True,
    )
    try:
        return attempts(action)
    except Exception as error:
        if is_transient(error):
            raise StorageError(
                redact(f"{url}: {type(error).__name__}: {error} (tried {RETRY_ATTEMPTS} times)")
            ) from error
        raise


@contextlib.contextmanager
def preflight(url: str) -> Iterator[None]:
    """Around what is looked at before any work: what does not answer or cannot be read is the user's to put right.

    Raises UserError for what storage and the formats raise; errors that name no object are given `url`.
    """
    try:
        yield
    except (ValueError, StorageError) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{url}: {error}") from error


def is_transient(error: BaseException) -> bool:
    """Whether trying again can help: a lost connection, a timeout, a server that is busy or failing."""
    for cause in causes(error):
        if isinstance(cause, FileNotFoundError | FileExistsError | PermissionError | IsADirectoryError):
            return False
        code = error_code(cause)
        if code is not None:
            return code in _TRANSIENT_CODES
        if isinstance(cause, ConnectionError | TimeoutError) or type(cause).__name__ in _TRANSIENT_NAMES:
            return True
    return isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNOS


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """`error`, what caused it, what caused that."""
    while error is not None:
        yield error
        error = error.__cause__


def error_code(error: BaseException) -> str | None:
    """The code with which an S3 server answered, where `error` is such an answer."""
    response = getattr(error, "response", None)
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None
