"""Ray cluster of several nodes on this machine, each with a loopback address of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray._private.utils import write_ray_address
from ray.cluster_utils import Cluster

from tests.chaos.driver import MARK, kill_marked

_QUICK = {
    # A dead node is noticed after one or two seconds instead of seventeen.
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}


class Nodes:
    """Head without CPUs for any tasks but its own, and workers that can be killed."""

    def __init__(self, cluster: Cluster, folder: str) -> None:
        self._cluster, self._folder = cluster, folder
        self.workers: list[Any] = []

    @property
    def address(self) -> str:
        return self._cluster.address

    def add(self, cpus: int) -> None:
        """Add a worker node with a folder of its own. In a shared one, it would unpack the submitted files again, and
        so pull them from under the others."""
        number = len(self.workers) + 3
        self.workers.append(
            self._cluster.add_node(
                num_cpus=cpus,
                node_ip_address=f"127.0.0.{number}",
                object_store_memory=100 * 2**20,
                temp_dir=f"{self._folder}/{number}",
                dashboard_agent_listen_port=free_port(),
            )
        )

    def kill(self, which: int) -> None:
        """Send SIGKILL to a worker node's raylet, whose death ends everything on the node."""
        raylet = self.workers[which].all_processes["raylet"][0].process
        raylet.kill()
        raylet.wait()  # while the raylet is a zombie, its workers take it for alive and live on

    def of_process(self, pid: int) -> int:
        """Return the worker node that a task or an actor runs on, from its process."""
        return self._raylets().index(_parent(pid))

    def running(self, name: str) -> list[int]:
        """Return the numbers of the worker nodes that run a process of Ray with `name` in its title."""
        raylets, found = self._raylets(), set[int]()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):  # the process has ended meanwhile
                    if name.encode() in (entry / "cmdline").read_bytes() and _parent(int(entry.name)) in raylets:
                        found.add(raylets.index(_parent(int(entry.name))))
        return sorted(found)

    def _raylets(self) -> list[int]:
        return [node.all_processes["raylet"][0].process.pid for node in self.workers]

    def environment(self) -> dict[str, str]:
        """Return the environment of a driver that is to join."""
        return {"RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": self._folder}


@contextlib.contextmanager
def nodes(
    head_cpus: int = 0, *, dashboard_port: int | None = None, environment: Mapping[str, str] = {}
) -> Iterator[Nodes]:
    """Start a cluster, and end it afterwards. `environment` is for its daemons."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    before = dict(os.environ)
    os.environ.update({"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", **environment})
    dashboard = {"include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": dashboard_port}
    try:
        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": head_cpus,
                "node_ip_address": "127.0.0.2",  # a driver takes 127.0.0.1 for its own outward address
                "object_store_memory": 100 * 2**20,
                "_system_config": _QUICK,
                "temp_dir": folder,
                "dashboard_agent_listen_port": free_port(),
                **(dashboard if dashboard_port else {"include_dashboard": False}),
            },
        )
        write_ray_address(cluster.address, folder)  # otherwise a submitted job would join any cluster of this machine
        try:
            yield Nodes(cluster, folder)
        finally:
            cluster.shutdown()
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def free_port() -> int:
    """Return a loopback port that nobody uses now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def own_python_first() -> dict[str, str]:
    """Return the environment of daemons whose jobs say `python` and mean this one."""
    return {"PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"}


@contextlib.contextmanager
def head(cpus: int, environment: Mapping[str, str]) -> Iterator[str]:
    """Start a cluster of one node by `ray start --head`, yield its dashboard's URL, and end the cluster afterwards."""
    folder, port = tempfile.mkdtemp(prefix="ray-", dir="/tmp"), free_port()
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--num-cpus={cpus}",
        f"--port={free_port()}", f"--dashboard-port={port}", f"--ray-client-server-port={free_port()}",
        f"--dashboard-agent-listen-port={free_port()}",
        f"--temp-dir={folder}", f"--object-store-memory={100 * 2**20}", "--node-ip-address=127.0.0.1",
    ]  # fmt: skip
    mark = uuid.uuid4().hex
    own = {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0", MARK: mark, **own_python_first(), **environment}
    log = Path(folder, "start.log")
    with log.open("wb") as output:
        process = subprocess.Popen(command, env={**os.environ, **own}, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        kill_marked(mark)  # SIGTERM would take half a minute
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ray_job(
    address: str, *arguments: str, folder: str, environment: Mapping[str, str] = {"RAY_AUTH_MODE": "disabled"}
) -> subprocess.CompletedProcess[str]:
    """Run `ray job ARGUMENTS` against the dashboard at `address`."""
    command: Sequence[str] = [sys.executable, "-m", "ray.scripts.scripts", "job", *arguments]
    own = {**os.environ, "RAY_API_SERVER_ADDRESS": address, **environment}
    own.pop("RAY_ADDRESS", None)
    return subprocess.run(command, env=own, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
