"""Start Ray inside this process, or join the cluster that is there; prove that the stages of a run can be placed."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import ray

from pipeline import hardware
from pipeline.errors import UserError

OBJECT_STORE_BYTES = 2 * 10**9
"""Shared memory of the embedded Ray, at most; a third of the free memory where that is less."""

_ANSWER_WITHIN_S = 10.0

_QUIET_LOGGERS = ("ray", "ray.data", "ray.train", "ray.tune")


@contextlib.contextmanager
def connect() -> Iterator[None]:
    """Ray, for the length of a `with` block.

    With `RAY_ADDRESS` set, or under `ray job submit`, the cluster that is there; otherwise one inside this process,
    which listens on loopback alone and ends with it. Inside an outer `connect` the outer one is used.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    if not sys.stderr.isatty():
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    with _same_stop_handler():
        _join() if joins() else _embed()
    try:
        yield
    finally:
        ray.shutdown()


def _join() -> None:
    address = os.environ["RAY_ADDRESS"]
    if address.startswith("http"):
        raise UserError(f"RAY_ADDRESS is {address}, a dashboard; it takes jobs from: transdomain submit NAME …")
    endpoints = _endpoints(address)
    if endpoints and not any(_answers(host, port) for host, port in endpoints):
        raise UserError(f"RAY_ADDRESS is {address}: no cluster answers there; start one, or unset it to run without")
    ray.init(log_to_driver=True, logging_level=logging.WARNING)


def _endpoints(address: str) -> list[tuple[str, int]]:
    """Where a cluster at HOST:PORT may listen; for `auto` and the like, which Ray looks up, none is known."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return []
    # Ray takes its own address for that of loopback.
    hosts = {host, ray.util.get_node_ip_address()} if host in ("localhost", "127.0.0.1") else {host}
    return [(each, int(port)) for each in hosts]


def _answers(host: str, port: int) -> bool:
    """Ray itself would try for more than three minutes."""
    try:
        with socket.create_connection((host, port), timeout=_ANSWER_WITHIN_S):
            return True
    except OSError:
        return False


def _embed() -> None:
    # Token authentication would write a token into the home, which a later `ray start` would then demand.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.update({k: v for k, v in hardware.MALLOC_ENVIRONMENT.items() if k not in os.environ})
    ray.init(
        address="local",
        num_cpus=hardware.available_cpus(),
        object_store_memory=min(OBJECT_STORE_BYTES, _free_memory() // 3),
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        log_to_driver=True,
        logging_level=logging.WARNING,
    )


@contextlib.contextmanager
def _same_stop_handler() -> Iterator[None]:
    """`ray.init` takes SIGTERM for itself, and would end the process without the line that resumes."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def joins() -> bool:
    """Whether there is a cluster to join, and Ray is not embedded in this process."""
    return bool(os.environ.get("RAY_ADDRESS"))


def nodes() -> list[dict[str, float]]:
    """Resources of each living node: CPU, GPU, memory and so on."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def check_placement(demands: Mapping[str, Mapping[str, float]], available: Sequence[Mapping[str, float]]) -> None:
    """Prove that one task of every stage fits on the cluster at the same time.

    `demands` maps a stage's name to what one task of it takes; `available` is `nodes()`. A pure function. Raises
    UserError naming the stage that finds no place: started anyway, the run would hang in silence.
    """
    left = [dict(node) for node in available]
    for name, need in sorted(demands.items(), key=lambda item: -sum(item[1].values())):
        for node in left:
            if all(node.get(resource, 0.0) + 1e-9 >= amount for resource, amount in need.items()):
                for resource, amount in need.items():
                    node[resource] = node.get(resource, 0.0) - amount
                break
        else:
            total = {r: sum(node.get(r, 0.0) for node in available) for stage in demands.values() for r in stage}
            raise UserError(
                f"stage {name} ({_amounts(need)}) cannot be placed beside the others: one task of each stage takes "
                f"{_amounts(_sum(demands))}, the cluster has {_amounts(total)} on {len(available)} node(s); "
                "lower what the stages take or use a larger cluster"
            )


def _sum(demands: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for need in demands.values():
        for resource, amount in need.items():
            total[resource] = total.get(resource, 0.0) + amount
    return total


def _amounts(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in sorted(resources.items()) if amount) or "nothing"


def _free_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
