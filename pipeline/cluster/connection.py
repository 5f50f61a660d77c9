"""Connections to Ray: start it inside this process, or join an existing cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import ray

from pipeline.cluster import host, liveness, loss, ray_internals
from pipeline.errors import UserError

log = logging.getLogger("transdomain")

_STORE_BYTES = 2 * 10**9
_STORE_BYTES_OF_CPU = 10**9
"""Shared memory of an embedded Ray, at least, and for each core. Ray Data begins no further task that could overfill
it: with 2 GB and units of 400 MB, 16 cores decoded one unit after the other, and a GPU waited for them."""

_ANSWER_WITHIN_S = 10.0
_START_WITHIN_S = 120
"""Longest wait for each part of an embedded Ray; it takes 3 s alone, and ten times that beside other work."""
_STARTS = 4
"""Attempts to start an embedded Ray."""

_RAY_SETS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "PYTHONBREAKPOINT")
"""Variables that Ray may set in the environment of a process that joins or starts a cluster."""

_QUIET_LOGGERS = ("ray", "ray.data", "ray.train", "ray.tune")


@contextlib.contextmanager
def connect() -> Iterator[None]:
    """Connect this process to Ray for the length of a `with` block.

    With `RAY_ADDRESS` set, or under `ray job submit`, join that cluster. Otherwise start one inside this process: it
    listens on loopback only, refuses clients without its token, and ends with the process. Inside an outer `connect`,
    reuse the outer connection. Afterwards the environment is as it was before.

    Raises UserError where the cluster cannot be joined, ClusterLostError where the connected cluster breaks down, and
    whatever a function that ran in it raised.
    """
    if ray.is_initialized():
        with loss.explained():
            yield
        return
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    with _environment(_settings() | ({} if joins() else _own_settings())), loss.explained():
        try:
            with _same_stop_handler():
                _join() if joins() else _embed()
            with liveness.watched(None if joins() else os.getpid()):
                yield
        finally:
            ray.shutdown()


def _settings() -> dict[str, str | None]:
    """Return settings for Ray itself, except those that the environment already sets."""
    wanted = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    }
    if not sys.stderr.isatty():
        wanted["RAY_COLOR_PREFIX"] = "0"
    return {name: value for name, value in wanted.items() if name not in os.environ}


def _own_settings() -> dict[str, str | None]:
    """Return settings for a cluster inside this process, unrelated to any other that the environment names.

    The token exists only in the environment of its processes: in no file, and on no command line.
    """
    own: dict[str, str | None] = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_AUTH_TOKEN_PATH": None,
        "RAY_ENABLE_K8S_TOKEN_AUTH": None,  # otherwise Ray asks Kubernetes about the token
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the same setting as `on_loopback` makes, for Ray's child processes
        "GLOO_SOCKET_IFNAME": "lo",  # the interface on which training workers connect
        "RAY_gcs_server_port_wait_time_s": str(_START_WITHIN_S),
    }
    return own | {k: v for k, v in host.WORKER_ENVIRONMENT.items() if k not in os.environ}


@contextlib.contextmanager
def _environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Set these variables inside the block, or unset them where the value is None, and make Ray read them again."""
    before = {name: os.environ.get(name) for name in {*changes, *_RAY_SETS}}
    _put(changes)
    ray_internals.read_environment_anew()
    try:
        yield
    finally:
        _put(before)
        ray_internals.read_environment_anew()


def _put(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _join() -> None:
    address = os.environ["RAY_ADDRESS"]
    if address.startswith("http"):
        raise UserError(f"RAY_ADDRESS is {address}, a dashboard; it takes jobs from: transdomain submit NAME …")
    endpoints = _endpoints(address)
    # Ray itself would try for more than three minutes.
    if endpoints and not any(liveness.answers(*each, within_s=_ANSWER_WITHIN_S) for each in endpoints):
        raise UserError(f"RAY_ADDRESS is {address}: no cluster answers there; start one, or unset it to run without")
    if endpoints and not any(liveness.speaks_grpc(*each, within_s=_ANSWER_WITHIN_S) for each in endpoints):
        raise UserError(
            f"RAY_ADDRESS is {address}: a process listens there, but it does not answer as the head of a Ray cluster "
            "does; set it to HEAD:6379, or to what `ray start --head` said, or unset it to run without a cluster"
        )
    ray.init(log_to_driver=True, logging_level=logging.WARNING)


def _endpoints(address: str) -> list[tuple[str, int]]:
    """Return the addresses where a cluster at HOST:PORT may listen; none for `auto` and similar words."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return []
    # Ray may replace a loopback address with the node's own.
    hosts = {host, ray.util.get_node_ip_address()} if host in ("localhost", "127.0.0.1") else {host}
    return [(each, int(port)) for each in hosts]


_LONGEST_SOCKET = 107
"""Bytes that the path of a Unix socket may have."""
_SESSION = "ray/session_2026-11-27_06-05-17_239776_4194304/sockets/plasma_store"
"""Longest path of a socket of Ray's, below its temporary folder."""
_LEAST_STORE_BYTES = 80 * 10**6
"""Shared memory below which Ray does not start."""


def check_machine(temporary: str, shared_memory: int) -> None:
    """Raise UserError where Ray cannot start here for want of a short path or of shared memory.

    Warn where there is so little that a job is slow.

    `temporary` is the folder for temporary files, and `shared_memory` the bytes that are free in /dev/shm.
    """
    if (length := len(os.fsencode(os.path.join(temporary, _SESSION)))) > _LONGEST_SOCKET:
        raise UserError(
            f"{temporary}: the folder for temporary files has too long a path: Ray's sockets in it would have {length} "
            f"bytes, and {_LONGEST_SOCKET} are possible; set TMPDIR (or RAY_TMPDIR) to a shorter one, such as /tmp"
        )
    if shared_memory * 9 // 10 < _LEAST_STORE_BYTES:
        raise UserError(
            f"/dev/shm has {shared_memory / 1e6:.0f} MB free, and Ray needs {_LEAST_STORE_BYTES / 0.9e6:.0f} and "
            "better 2,000; free some, start a container with --shm-size=2g, or run with --local"
        )
    if shared_memory * 9 // 10 < min(_STORE_BYTES, _free_memory() // 3):
        log.warning(
            f"/dev/shm has {shared_memory / 1e6:.0f} MB free, and a third of the memory would be better, up to 2,000: "
            "fewer units are in work at once, and larger ones go by way of the disk; free some, or start a container "
            "with --shm-size=3g"
        )


def _embed() -> None:
    # Where Ray looks for the folder, which is not all that `tempfile` does.
    temporary = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    check_machine(temporary, _free_shared_memory())
    for left in reversed(range(_STARTS)):
        try:
            with (
                ray_internals.on_loopback(),
                ray_internals.without_unused_processes(),
                ray_internals.startup(_START_WITHIN_S),
            ):
                _start()
            return
        except ray_internals.StartError as error:
            ray.shutdown()
            if not left:
                raise RuntimeError(f"Ray did not start in {_STARTS} attempts: {error}") from error
            log.warning("Ray did not start: %s; it is started again", error)


def _start() -> None:
    ray.init(
        address="local",
        num_cpus=host.available_cpus(),
        object_store_memory=object_store_bytes(host.available_cpus(), _free_memory(), _free_shared_memory()),
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        log_to_driver=True,
        logging_level=logging.WARNING,
    )


def object_store_bytes(cpus: int, memory: int, shared_memory: int) -> int:
    """Return the size of an embedded Ray's object store, on so many cores with so many bytes free.

    It takes a third of the memory at most, and nine tenths of /dev/shm, beyond which Ray would use a disk.
    """
    return min(max(_STORE_BYTES, cpus * _STORE_BYTES_OF_CPU), memory // 3, shared_memory * 9 // 10)


def free() -> list[dict[str, float]]:
    """Return each living node's resources that are free at the moment."""
    return ray_internals.free_resources()


@contextlib.contextmanager
def _same_stop_handler() -> Iterator[None]:
    """Restore the SIGTERM handler, which `ray.init` replaces.

    Ray's own handler would end the process before it prints the line that says how to resume.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread handles signals
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def joins() -> bool:
    """Return True where there is a cluster to join, and Ray is not embedded in this process."""
    return bool(os.environ.get("RAY_ADDRESS"))


def nodes() -> list[dict[str, float]]:
    """Return the resources of each living node: CPU, GPU, memory and so on."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _free_shared_memory() -> int:
    try:
        return shutil.disk_usage("/dev/shm").free
    except OSError:  # there is none, and Ray uses a disk in any case
        return _STORE_BYTES


def _free_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
