"""Drain a Ray pod before it goes, as its preStop hook: python infra/drain.py head|worker SECONDS.

SIGTERM alone would end Ray at once, and every step since the last checkpoint would be lost. So the head stops its jobs
as `ray job stop` does, and they write a checkpoint; a worker tells Ray that its node is going, so that training writes
one. Then both wait until nothing runs here any more, for SECONDS at most. After that Kubernetes sends SIGTERM.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import ray
from ray.job_submission import JobStatus, JobSubmissionClient

_IDLE = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
_LOOK_EVERY_S = 0.5


def drain_head(seconds: float) -> None:
    """Stop all jobs and wait until they have ended."""
    client = JobSubmissionClient(os.environ.get("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265"))
    running = [job.submission_id for job in client.list_jobs() if job.submission_id and not job.status.is_terminal()]
    for job in running:
        client.stop_job(job)
    ended = (JobStatus.STOPPED, JobStatus.SUCCEEDED, JobStatus.FAILED)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(client.get_job_status(job) not in ended for job in running):
        time.sleep(_LOOK_EVERY_S)


def drain_worker(seconds: float) -> None:
    """Tell Ray that this node goes in `seconds`, and wait until no task or actor runs on it."""
    address, here = os.environ["RAY_ADDRESS"], os.environ["POD_IP"]
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    node = next(node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeManagerAddress"] == here)
    ray.shutdown()
    subprocess.run(
        [
            *("ray", "drain-node", "--address", address, "--node-id", node, "--reason", "DRAIN_NODE_REASON_PREEMPTION"),
            *("--reason-message", "the pod is going", "--deadline-remaining-seconds", str(int(seconds))),
        ],
        check=True,
    )
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and _busy():
        time.sleep(_LOOK_EVERY_S)


def _busy() -> bool:
    """Return True where a task or an actor runs here: worker processes bear its name, and a pod sees its own alone."""
    return any(title.startswith("ray::") and not title.startswith(_IDLE) for title in _titles())


def _titles() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().split(b"\0")[0].decode(errors="replace"))
        except OSError:  # the process has ended meanwhile
            continue
    return found


if __name__ == "__main__":
    {"head": drain_head, "worker": drain_worker}[sys.argv[1]](float(sys.argv[2]))
