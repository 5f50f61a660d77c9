"""The processes of Ray without which a run cannot go on, watched from the driver.

Ray itself ends a driver whose GCS is gone after a minute of silence, and one whose raylet is gone after a fifth of a
second or a quarter of a minute, mostly without an exception that Python could catch. So it is noticed here first, and
said.
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
"""Part of the time that Ray waits for a GCS that does not answer; the rest is for saying so."""

_log = logging.getLogger("transdomain")


@contextlib.contextmanager
def watched(owner: int | None) -> Iterator[None]:
    """Inside, the loss of the connected cluster is said as soon as it is seen, and ends the process where it is a job.

    `owner` is the process whose children GCS and raylet are, or None where the cluster was joined: then the GCS is
    asked for an answer, and has a while to come back.
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
        os.close(wake)  # which ends the poll
        threads[0].join()
        os.close(over)


def _follow_processes(over: int, owner: int | None) -> None:
    """Until the reading end `over` is closed, or one of the processes has ended."""
    names = {}
    poll = select.poll()
    poll.register(over, 0)  # its end is always told
    for name, pid in ray_internals.daemons().items():
        with contextlib.suppress(OSError):  # it is gone already: Ray will say so
            descriptor = os.pidfd_open(pid)
            names[descriptor] = name, pid
            poll.register(descriptor, select.POLLIN)
    try:
        ready = [descriptor for descriptor, _ in poll.poll()]
        if over not in ready:
            name, pid = names[ready[0]]
            loss.lost(f"Ray's {name} (process {pid}) {_end_of(pid, owner)}")
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
    answered, told = time.monotonic(), False
    while not ended.wait(_ASK_EVERY_S):
        if _answers(host.strip("[]"), int(port)):
            answered, told = time.monotonic(), False
            continue
        silent_s = time.monotonic() - answered
        if not told and silent_s > 2 * _ASK_EVERY_S:
            told = True
            _log.warning(f"the cluster's GCS at {address} does not answer; waiting {patience_s:.0f} s for it")
        if silent_s > patience_s:
            loss.lost(f"the cluster's GCS at {address} has not answered for {silent_s:.0f} s")
            return


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=_ANSWER_WITHIN_S):
            return True
    except OSError:
        return False
