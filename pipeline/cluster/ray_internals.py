"""Names of Ray that are not part of its public interface. Check them first when you move the pinned version."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
import signal
import socket
import struct
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants, services, state, worker
from ray._private.node import Node
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]


def read_environment_anew() -> None:
    """Make Ray forget what it read from the environment: the authentication mode and the token.

    Ray reads the mode when it is imported. Call this only while the process is connected to no cluster. The order is
    that of Ray's own tests (`ray._private.authentication_test_utils`): a connection that is still closing would look
    for the token.
    """
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """Make a cluster that is started inside the block listen on 127.0.0.1 only.

    This holds for GCS, raylet, agents, workers and driver. Ray does the same on Windows and macOS. By default, Ray
    resolves `_node_ip_address="127.0.0.1"` to the address that other hosts see, and everything then listens on all
    addresses. Ray sets the constant from RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER when it is imported.
    """
    with _replaced(ray_constants, ENABLE_RAY_CLUSTER=False):
        yield


@contextlib.contextmanager
def without_unused_processes() -> Iterator[None]:
    """Make a cluster that is started inside the block do without dashboard and autoscaler.

    There is nobody to look at the one, and no machine for the other to add. Ray starts both, also where no dashboard is
    asked for, and waits for it before it starts the raylet: together some seconds of two cores.
    """

    def name_none(node: Any, **options: Any) -> None:
        # Otherwise an agent looks for its address each second, and logs each time that there is none.
        node.get_gcs_client().internal_kv_put(
            ray_constants.DASHBOARD_ADDRESS.encode(), b"127.0.0.1:9", True, ray_constants.KV_NAMESPACE_DASHBOARD
        )

    with _replaced(Node, start_api_server=name_none, start_monitor=lambda node: None):
        yield


@contextlib.contextmanager
def data_on_one_machine() -> Iterator[None]:
    """Make Ray Data work, inside the block, without its actors for dashboard, autoscaler and places of actors.

    It waits for the second to say what resources there are, and for the third to say where an actor is, and for the
    first to name a dataset where it is set to old names. Each takes as long as a process needs to start.
    """
    from ray.data._internal.cluster_autoscaler import ClusterAutoscaler
    from ray.data._internal.execution import streaming_executor
    from ray.data._internal.execution.interfaces import ExecutionResources
    from ray.data._internal.execution.operators import actor_pool_map_operator

    resources = ExecutionResources.from_resource_dict(ray.cluster_resources())

    class OneMachine(ClusterAutoscaler):
        def try_trigger_scaling(self) -> None:
            pass

        def on_executor_shutdown(self) -> None:
            pass

        def get_total_resources(self) -> ExecutionResources:
            return resources

    def untold(*arguments: Any, **options: Any) -> None:
        pass

    with (
        _replaced(streaming_executor, create_cluster_autoscaler=lambda *arguments, **options: OneMachine()),
        _replaced(
            streaming_executor._StatsManager,
            gen_dataset_id_from_stats_actor=staticmethod(lambda: uuid.uuid4().hex),
            register_dataset_to_stats_actor=staticmethod(untold),
            update_execution_metrics=staticmethod(untold),
            update_iteration_metrics=staticmethod(untold),
        ),
        _replaced(
            actor_pool_map_operator,
            get_or_create_actor_location_tracker=_NoTracker,
            get_actor_locations=lambda actors: {},  # each is where it was when it began
        ),
    ):
        yield


class _NoTracker:
    """Stand-in for Ray Data's actor that is told where each actor of a pool is; its workers get it, too."""

    @property
    def update_actor_location(self) -> _NoTracker:
        return self

    def remote(self, actor: str, node: str) -> None:
        pass


@contextlib.contextmanager
def _replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Give `owner` other attributes inside the block. Raises AttributeError where it has none of that name."""
    before = {name: inspect.getattr_static(owner, name) for name in values}
    try:
        for name, value in values.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


class StartError(Exception):
    """A cluster that was to start inside this process did not."""


@contextlib.contextmanager
def startup(within_s: float) -> Iterator[None]:
    """Watch the start of a cluster inside the block; on StartError, end the processes that did start.

    Raises StartError as soon as the raylet has ended, or after `within_s` seconds. A raylet ends where its agents take
    more than 15 s to start, as they do on a busy machine (https://github.com/ray-project/ray/issues/65983). By default,
    Ray does not notice, waits for 30 s, and leaves the other processes running.
    """
    get_node, before = services.get_node, _children()

    def get_node_while_alive(*arguments: Any) -> Any:
        until = time.monotonic() + within_s
        while True:
            try:
                return get_node(*arguments)
            except RuntimeError as error:  # the raylet has not registered yet
                if "raylet" not in _children().values():
                    raise StartError("its raylet ended, as it does where its agents need more than 15 s") from error
                if time.monotonic() > until:
                    raise StartError(f"its raylet did not register in {within_s:.0f} s") from error
            time.sleep(0.1)

    try:
        with _replaced(services, get_node=get_node_while_alive):
            yield
    except StartError:
        for pid in _children().keys() - before.keys():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        raise


def _children() -> dict[int, str]:
    """Return the processes that this one has started and that have not ended, each with its name."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended in the meantime
            name, _, fields = (folder / "stat").read_text().partition("(")[2].rpartition(") ")
            state, parent = fields.split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                found[int(folder.name)] = name
    return found


def one_row_a_block(rows: Any) -> Any:
    """Return `rows`, a Ray dataset, with one row per block, made by one task at a time that books no resources.

    `Dataset.repartition` books a CPU and takes no options; next to a pool of actors there may be no CPU left.
    """
    from ray.data import Dataset, TaskPoolStrategy
    from ray.data._internal.logical.interfaces import LogicalPlan

    asked = rows.repartition(target_num_rows_per_block=1)
    operator = dataclasses.replace(
        asked._logical_plan.dag, ray_remote_args={"num_cpus": 0}, compute=TaskPoolStrategy(size=1)
    )
    return Dataset._from_parent(rows, LogicalPlan(operator, asked.context))


def free_resources() -> list[dict[str, float]]:
    """Return the free resources of each node, in the form of `ray.nodes()`.

    Ray's own `available_resources` returns only the sum over all nodes.
    """
    return [dict(node) for node in state.available_resources_per_node().values()]


def gcs_patience_s() -> float:
    """Return the seconds after which Ray ends a driver whose GCS does not answer.

    Ray has no public name for this setting.
    """
    return float(os.environ.get("RAY_gcs_rpc_server_reconnect_timeout_s") or 60)  # noqa: SIM112


def daemons() -> dict[str, int]:
    """Return the processes, by name, that this connection needs: GCS, raylet, and the raylet's agents.

    For a cluster that was joined, return only the raylet and its agents, if they are on this machine. The raylet
    contains the object store.
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
    """Return both agents. The raylet starts them, and ends when one of them does."""
    found = dict[str, int]()
    with contextlib.suppress(OSError):  # the process is another user's, or already gone
        for pid in map(int, Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()):
            title = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            found |= {name: pid for start, name in _AGENTS.items() if title.startswith(start)}
    return found


def _listener(path: str | None) -> int:
    """Return the id of the process that listens on a Unix socket; 0 where there is none."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path or "")
        except OSError:
            return 0
        return int(struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
