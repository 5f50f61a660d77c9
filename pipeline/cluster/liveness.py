"""Watch, from the driver, the Ray processes without which a run cannot go on.

Ray ends a driver whose GCS has been silent for a minute. It ends one whose raylet is gone after a fifth of a second or
after a quarter of a minute. In most cases Python gets no exception that it could catch. So this module notices the loss
first and reports it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator

import ray

from pipeline.cluster import loss, ray_internals

_ASK_EVERY_S = 5.0
_ANSWER_WITHIN_S = 5.0
_SHARE_OF_PATIENCE = 0.8
"""Part of the time that Ray waits for a silent GCS; the rest is for reporting the loss."""

_log = logging.getLogger("transdomain")


@contextlib.contextmanager
def watched(owner: int | None) -> Iterator[None]:
    """Watch the connected cluster inside the block.

    The loss of the cluster is reported as soon as it is noticed, and ends the process where that process is a job.

    `owner` is the process whose children GCS and raylet are, or None for a cluster that was joined. A joined cluster's
    GCS is probed, and has some time to come back.
    """
    over, wake = os.pipe()
    threads = [threading.Thread(target=_follow_processes, args=(over, owner), name="watch-ray", daemon=True)]
    if owner is None:
        ended = threading.Event()
        threads.append(threading.Thread(target=_follow_gcs, args=(ended,), name="watch-gcs", daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        if owner is None:
            ended.set()
        os.close(wake)  # ends the poll
        threads[0].join()
        os.close(over)


def _follow_processes(over: int, owner: int | None) -> None:
    """Wait until the reading end `over` is closed, or report the first of the processes that has ended."""
    names = {}
    poll = select.poll()
    poll.register(over, 0)  # poll reports a hang-up even with an empty mask
    for name, pid in ray_internals.daemons().items():
        with contextlib.suppress(OSError):  # already gone: Ray reports it
            descriptor = os.pidfd_open(pid)
            names[descriptor] = name, pid
            poll.register(descriptor, select.POLLIN)
    try:
        ready = [descriptor for descriptor, _ in poll.poll()]
        if over not in ready:
            name, pid = names[ready[0]]
            loss.report_loss(f"Ray's {name} (process {pid}) {_end_of(pid, owner)}")
    finally:
        for descriptor in names:
            os.close(descriptor)


def _end_of(pid: int, owner: int | None) -> str:
    try:
        seen = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) if owner == os.getpid() else None
    except ChildProcessError:
        seen = None
    if seen is None:
        return "has ended"
    if seen.si_code == os.CLD_EXITED:
        return f"has ended with code {seen.si_status}"
    hint = ", as the kernel does where memory runs out" if seen.si_status == signal.SIGKILL else ""
    return f"was killed by {signal.Signals(seen.si_status).name}{hint}"


def _follow_gcs(ended: threading.Event) -> None:
    address = ray.get_runtime_context().gcs_address
    host, _, port = address.rpartition(":")
    patience_s = ray_internals.gcs_patience_s() * _SHARE_OF_PATIENCE
    answered, warned = time.monotonic(), False
    while not ended.wait(_ASK_EVERY_S):
        if answers(host.strip("[]"), int(port), within_s=_ANSWER_WITHIN_S):
            answered, warned = time.monotonic(), False
            continue
        silent_s = time.monotonic() - answered
        if not warned and silent_s > 2 * _ASK_EVERY_S:
            warned = True
            _log.warning(f"the cluster's GCS at {address} does not answer; waiting {patience_s:.0f} s for it")
        if silent_s > patience_s:
            loss.report_loss(f"the cluster's GCS at {address} has not answered for {silent_s:.0f} s")
            return


def answers(host: str, port: int, *, within_s: float) -> bool:
    """Return True where something listens at this address, and accepts a connection in so many seconds."""
    try:
        with socket.create_connection((host, port), timeout=within_s):
            return True
    except OSError:
        return False


_PREFACE, _SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\x04\0\0\0\0\0"
"""First bytes of a client of HTTP/2, and a frame of settings, with which a server answers them (RFC 9113, 3.4)."""


def speaks_grpc(host: str, port: int, *, within_s: float) -> bool:
    """Return True where a server of HTTP/2, as a GCS is, answers at this address in so many seconds.

    Where another process listens, or one that is stopped, Ray itself tries for minutes. With TLS between the parts of
    Ray, any listener passes.
    """
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return answers(host, port, within_s=within_s)
    try:
        with socket.create_connection((host, port), timeout=within_s) as there, there.makefile("rb") as answer:
            there.sendall(_PREFACE + _SETTINGS)
            return answer.read(len(_SETTINGS))[3:4] == _SETTINGS[3:4]
    except OSError:
        return False
