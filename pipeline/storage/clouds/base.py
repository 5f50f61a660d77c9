"""Contract between the object stores of this room and the policy above it, which retries; nothing here does."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

F = TypeVar("F")

CONNECT_S = 5.0
"""Seconds in which a connection must be there."""
SLOWEST_BYTES_PER_S = 50_000
"""Rate that sets the extra time an attempt gets for its bytes, however steadily they drip."""


class BadBody(Exception):  # noqa: N818
    """Content that cannot be what the server has and should be read again."""


class ChangedError(Exception):
    """Answer that the object is another one by now than the one that was asked for."""


class RefusedError(Exception):
    """Answer of a server that is none of: here it is, there is none, the name is taken."""

    def __init__(self, status: int, code: str, text: str) -> None:
        """`code` is the server's own word, or the status where it has none."""
        super().__init__(f"{status} {code}: {text[:400]}" if code != str(status) else f"{status}: {text[:400]}")
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        """The answer as `storage.retry` reads it."""


def missing(what: str) -> FileNotFoundError:
    """Return the error for something that is not there; who retries adds its name."""
    return FileNotFoundError(errno.ENOENT, f"no such {what}")


class Answer(NamedTuple):
    """Answer to one request."""

    status: int
    headers: Mapping[str, str]
    """Header fields; names are found in any case."""
    data: bytes


class Body(NamedTuple):
    """Object, or a range of it, as it came."""

    data: bytes
    length: int | None
    """Number of bytes that the server announced for the whole object; None where it said none, or sent a range."""
    said: str | None
    """Header Content-Range; None where the server sent the whole object."""


class Found(NamedTuple):
    """Listed object, or one that was looked up."""

    path: str
    """Path as the filesystem has it, which begins with the bucket."""
    size: int
    """Number of bytes."""
    version: str
    """Value that changes with the content."""
    changed: float | None = None
    """Time of its last change, in seconds of time.time(); None where the store does not say."""


class Page(NamedTuple):
    """Part of a listing."""

    found: list[Found]
    following: str
    """Where the listing goes on; empty at its end."""


class Cloud(Protocol):
    """Object store: one attempt of each operation, which ends in about `patience_s` seconds and retries nothing.

    All raise RefusedError and ChangedError, errors of a connection, TimeoutError, and FileNotFoundError where there is
    no such object or bucket. `path` begins with the bucket, container or repository.
    """

    @property
    def CONDITION(self) -> str:  # noqa: N802
        """Condition with which an object is created exclusively; empty for a store that is only read."""

    @property
    def MOST_BYTES(self) -> int:  # noqa: N802
        """Size of the largest object that one request can write."""

    def get(
        self, fs: Any, path: str, patience_s: float, *, version: str = "", span: tuple[int, int] | None = None
    ) -> Body:
        """Return an object, or its bytes from the first of `span` to before the second.

        Raises ChangedError where it has another version, and BadBody where it does not match the store's checksum.
        """

    def put(self, fs: Any, path: str, data: bytes, patience_s: float, *, exclusive: bool) -> None:
        """Write an object whole, in one request. Raises FileExistsError where `exclusive` and the name is taken."""

    def page(self, fs: Any, path: str, patience_s: float, following: str) -> Page:
        """Return the first objects below a path, or those at `following`, in any order."""

    def look_up(self, fs: Any, path: str, patience_s: float) -> Found:
        """Return what is known about an object."""

    def delete(self, fs: Any, path: str, patience_s: float) -> None:
        """Remove an object."""

    def renew(self, fs: Any) -> None:
        """Look up credentials again after a refusal, since they may have been replaced."""


_shared: dict[tuple[Any, ...], Any] = {}
_opening = threading.Lock()


def _after_fork() -> None:
    """Forget a lock that a thread of the parent may hold."""
    global _opening
    _opening = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def shared(make: Callable[[], F], kind: str, *names: str) -> F:
    """Return the filesystem of a kind that all threads of this process share, made anew where the environment differs.

    `names` are the beginnings of the names of environment variables that decide what is made.
    """
    environment = sorted(item for item in os.environ.items() if item[0].startswith(names))
    key = (os.getpid(), kind, *environment)
    with _opening:
        if key not in _shared:
            _shared[key] = make()
        found: F = _shared[key]
        return found


def split(path: str) -> tuple[str, str]:
    """Return the bucket and the key of a path."""
    bucket, _, key = path.lstrip("/").partition("/")
    return bucket, key
