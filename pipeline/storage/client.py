"""S3 client that all threads of a process share: it never retries by itself, and every request ends in time."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import fsspec
from fsspec.asyn import AsyncFileSystem

from pipeline import usage
from pipeline.storage.retry import ANSWER_S, answer_s, retrying
from pipeline.usage import Usage

T = TypeVar("T")

_RENEW_S = 2.0
"""Least number of seconds between two lookups of credentials."""

_renewed: weakref.WeakKeyDictionary[fsspec.AbstractFileSystem, float] = weakref.WeakKeyDictionary()
_opened: dict[tuple[Any, ...], AsyncFileSystem] = {}
_opening = threading.Lock()
_counted: weakref.WeakSet[Any] = weakref.WeakSet()
"""Clients whose requests are counted."""


def _after_fork() -> None:
    """Forget a lock that a thread of the parent may hold."""
    global _opening
    _opening = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def options() -> dict[str, Any]:
    """Return the options to open a filesystem with, on top of the user's configuration of fsspec."""
    from pipeline.storage.clouds.http import OneTry  # imported here: most jobs on a disk need no client

    theirs: dict[str, Any] = {}
    for scheme in ("s3", "s3a"):
        theirs |= fsspec.config.conf.get(scheme, {}).get("config_kwargs") or {}
    ours = {"connect_timeout": 5, "read_timeout": ANSWER_S, "tcp_keepalive": True, "max_pool_connections": 64}
    once = {"retries": {"total_max_attempts": 1, "mode": "standard"}, "http_session_cls": OneTry}
    return {"use_listings_cache": False, "config_kwargs": {**ours, **theirs, **once}}


def filesystem() -> AsyncFileSystem:
    """Return the S3 filesystem that all threads of this process share; a new one where the environment has changed.

    fsspec itself would make one per thread, each with its own client and connections.
    """
    key = (os.getpid(), *sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    with _opening:
        if key not in _opened:
            _opened[key] = fsspec.filesystem("s3", skip_instance_cache=True, **options())
            _opened[key].retries = 1  # s3fs's own; `pipeline.storage.retry` does the retries
        return _opened[key]


def is_s3(fs: fsspec.AbstractFileSystem) -> bool:
    """Return True where a filesystem is that of an S3 server."""
    return "s3" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def in_time(fs: fsspec.AbstractFileSystem, url: str) -> dict[str, float]:
    """Connect, and return the timeout argument for a filesystem's calls, where it takes one."""
    connect(fs)
    return {"timeout": answer_s(url)} if isinstance(fs, AsyncFileSystem) else {}


def connect(fs: fsspec.AbstractFileSystem) -> None:
    """Find credentials and make the client, once; this may take longer than any request."""
    if is_s3(fs):
        _count_requests(fs.connect(timeout=ANSWER_S))
        _renewed.setdefault(fs, time.monotonic())


def _count_requests(made: Any) -> None:
    """Have every request of an S3 client noted as it is sent, each attempt for itself; once for a client."""
    if made not in _counted:
        _counted.add(made)
        made.meta.events.register("before-send", _note_request)


def _note_request(event_name: str, **_: Any) -> None:
    operation = event_name.rpartition(".")[2]
    if operation.startswith(("Get", "Head")):
        usage.note(Usage(get=1))
    elif not operation.startswith("Delete"):  # which is free
        usage.note(Usage(put=1))


def retrying_on(fs: fsspec.AbstractFileSystem, action: Callable[[], T], url: str) -> T:
    """Call `retrying`, and look up credentials again after a refusal, since they may have been replaced."""
    return retrying(action, url, lambda: _renew(fs))


def _renew(fs: fsspec.AbstractFileSystem) -> None:
    with _opening:
        if not is_s3(fs) or time.monotonic() - _renewed.get(fs, 0.0) < _RENEW_S:
            return
        _renewed[fs] = time.monotonic()
    fs.connect(refresh=True, timeout=ANSWER_S)
