"""Names of Ray that are no part of its interface, in one place: whoever moves the pinned version looks here first."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray._private import ray_constants, state, worker
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]


def read_environment_anew() -> None:
    """Make Ray forget what it took from the environment: the authentication's mode, at import, and its token.

    Only while this process is connected to no cluster. In this order, as Ray's own tests do it
    (`ray._private.authentication_test_utils`): a connection that is not yet quite gone would look for the token.
    """
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """Inside, a cluster that this process starts listens on 127.0.0.1 alone: GCS, raylet, agents, workers and driver.

    The way of Ray for Windows and macOS. By default, `_node_ip_address="127.0.0.1"` is resolved to the address that
    other hosts see, and everything then listens on all of them. The constant is set from
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER when Ray is imported.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def one_row_a_block(rows: Any) -> Any:
    """`rows`, a Ray dataset, as one block a row, made by one task at a time that books nothing.

    That of `Dataset.repartition` books a CPU, and takes no options; beside a pool of actors there may be none left.
    """
    from ray.data import Dataset, TaskPoolStrategy
    from ray.data._internal.logical.interfaces import LogicalPlan

    asked = rows.repartition(target_num_rows_per_block=1)
    operator = dataclasses.replace(
        asked._logical_plan.dag, ray_remote_args={"num_cpus": 0}, compute=TaskPoolStrategy(size=1)
    )
    return Dataset._from_parent(rows, LogicalPlan(operator, asked.context))


def free_resources() -> list[dict[str, float]]:
    """By node, like `ray.nodes()`; Ray's own `available_resources` gives the sum of all alone."""
    return [dict(node) for node in state.available_resources_per_node().values()]


def gcs_patience_s() -> float:
    """Seconds after which Ray ends a driver whose GCS does not answer; a setting of its that has no other name."""
    return float(os.environ.get("RAY_gcs_rpc_server_reconnect_timeout_s") or 60)  # noqa: SIM112


def daemons() -> dict[str, int]:
    """The processes without which this connection is lost, by name: GCS, raylet, and the raylet's agents.

    Of a cluster that was joined only the raylet, if it is on this machine; its object store is a part of it.
    """
    node: Any = worker._global_node
    if node is None:
        return {}
    started = {kind: each[0].process.pid for kind, each in node.all_processes.items() if each}
    found = {name: started[kind] for kind, name in _OF_DRIVER.items() if kind in started}
    if "raylet" not in found and (raylet := _listener(node.raylet_socket_name)):
        found["raylet"] = raylet
    return found | _agents(found.get("raylet", 0))


_OF_DRIVER = {"gcs_server": "GCS", "raylet": "raylet"}
_AGENTS = {"ray::DashboardAgent": "dashboard agent", "ray::RuntimeEnvAgent": "runtime environment agent"}


def _agents(raylet: int) -> dict[str, int]:
    """Both are started by the raylet, which ends when one of them does."""
    found = dict[str, int]()
    with contextlib.suppress(OSError):  # it is another user's, or is gone already
        for pid in map(int, Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()):
            title = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            found |= {name: pid for start, name in _AGENTS.items() if title.startswith(start)}
    return found


def _listener(path: str | None) -> int:
    """The process that listens on a Unix socket; 0 where there is none."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path or "")
        except OSError:
            return 0
        return int(struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
