"""A Ray cluster of several nodes on this machine, each with a loopback address of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ray.cluster_utils import Cluster

_QUICK = {
    # A dead node is noticed after one or two seconds instead of seventeen.
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}


class Nodes:
    """A head without CPUs for tasks (but for those of its own), and workers that can be killed."""

    def __init__(self, cluster: Cluster, folder: str) -> None:
        self._cluster, self._folder = cluster, folder
        self.workers: list[Any] = []

    @property
    def address(self) -> str:
        return self._cluster.address

    def add(self, cpus: int) -> None:
        """One more worker node."""
        self.workers.append(
            self._cluster.add_node(
                num_cpus=cpus, node_ip_address=f"127.0.0.{len(self.workers) + 3}", object_store_memory=100 * 2**20
            )
        )

    def kill(self, which: int) -> None:
        """SIGKILL to a worker node's raylet, whose death ends all on the node."""
        node = self.workers[which]
        os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)

    def environment(self) -> dict[str, str]:
        """Of a driver that is to join."""
        return {"RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": self._folder}


@contextlib.contextmanager
def nodes(
    head_cpus: int = 0, *, dashboard_port: int | None = None, environment: Mapping[str, str] = {}
) -> Iterator[Nodes]:
    """A cluster that is gone afterwards. `environment` is for its daemons."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    before = dict(os.environ)
    os.environ.update({"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", **environment})
    dashboard = {"include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": dashboard_port}
    try:
        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": head_cpus,
                "node_ip_address": "127.0.0.2",  # a driver takes 127.0.0.1 for its own outer address
                "object_store_memory": 100 * 2**20,
                "_system_config": _QUICK,
                "temp_dir": folder,
                **(dashboard if dashboard_port else {"include_dashboard": False}),
            },
        )
        try:
            yield Nodes(cluster, folder)
        finally:
            cluster.shutdown()
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def ray_job(address: str, *arguments: str, folder: str) -> subprocess.CompletedProcess[str]:
    """`ray job ARGUMENTS` against the dashboard at `address`."""
    command: Sequence[str] = [sys.executable, "-m", "ray.scripts.scripts", "job", *arguments]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_API_SERVER_ADDRESS": address}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
