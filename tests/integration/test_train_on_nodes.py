"""Training on a cluster of several nodes: lost nodes, announced losses, and `ray job stop`."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ray._raylet import GcsClient
from ray.core.generated import autoscaler_pb2

from pipeline.training.checkpoints import checkpoint
from pipeline.training.config.train import TrainConfig
from pipeline.training.monitor import metrics
from tests.chaos.driver import Driver
from tests.cluster import free_port, nodes, ray_job
from tests.integration.test_train import check, uninterrupted
from tests.jobs.test_train_cli import flags
from tests.pipeline.training import small

pytestmark = pytest.mark.long

_STEPS = 120


def config_of(folder: Path, **changes: object) -> TrainConfig:
    store = small.write_pairs(str(folder / "store"), 7)
    settings = {"steps": _STEPS, "workers": 2, "checkpoint_every": 10, "keep_checkpoints": 3, "log_every": 20}
    return small.pix2pix(store, str(folder / "run"), **{**settings, **changes})


def command(config: TrainConfig, *more: str) -> list[str]:
    cadence = ["--checkpoint_every", str(config.checkpoint_every), "--log_every", str(config.log_every)]
    length = ["--steps", str(config.steps), "--workers", str(config.workers), "--cpus_per_worker", "1"]
    return [*flags(config), *cadence, *length, "--shared_disk", *more]


def reaches(config: TrainConfig, step: int) -> Callable[[], bool]:
    return lambda: checkpoint.steps(config.output)[-1:] >= [step]


def test_a_lost_node_is_replaced_by_another_and_the_bits_are_the_same(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    with nodes() as cluster:
        cluster.add(1)
        cluster.add(1)
        with Driver("train", command(config), tmp_path / "log", cluster.environment()) as driver:
            assert driver.wait_for(reaches(config, 30)), driver.log.read_text()[-3000:]
            cluster.kill(1)
            cluster.add(1)
            assert driver.wait() == 0, driver.log.read_text()[-3000:]
    assert "resuming from the checkpoint of step" in (tmp_path / "log").read_text()
    check(config, uninterrupted(config, tmp_path))


def test_an_elastic_run_goes_on_with_the_nodes_that_are_left(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    with nodes() as cluster:
        cluster.add(1)
        cluster.add(1)
        with Driver("train", command(config, "--min_workers", "1"), tmp_path / "log", cluster.environment()) as driver:
            assert driver.wait_for(reaches(config, 30)), driver.log.read_text()[-3000:]
            cluster.kill(1)
            assert driver.wait() == 0, driver.log.read_text()[-3000:]
    said = (tmp_path / "log").read_text()
    assert "2 worker(s)" in said
    assert "1 worker(s)" in said
    assert "not bit for bit as before, since workers 2 → 1" in said
    assert [line["step"] for line in metrics.read_metrics(config.output)] == list(range(20, _STEPS + 1, 20))


def test_an_announced_loss_of_a_node_writes_a_checkpoint_at_once(tmp_path: Path) -> None:
    config = config_of(tmp_path, steps=20_000, checkpoint_every=10_000, log_every=5)
    with nodes() as cluster:
        cluster.add(1)
        cluster.add(1)
        with Driver("train", command(config), tmp_path / "log", cluster.environment()) as driver:
            assert driver.wait_for(lambda: len(metrics.read_metrics(config.output)) > 0), driver.log.read_text()[-3000:]
            assert checkpoint.steps(config.output) == []
            announce_loss(cluster.address, cluster.workers[1].node_id)
            assert driver.wait_for(reaches(config, 1), 60)
            driver.kill()
    assert checkpoint.steps(config.output)[0] % 5 == 0


def announce_loss(address: str, node_id: str) -> None:
    """Drain a node, as a cloud does when it announces the end of a spot instance."""
    deadline_ms = int((time.time() + 120) * 1000)
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, why = GcsClient(address).drain_node(node_id, reason, "test", deadline_ms)
    assert accepted, why


def test_ray_job_stop_loses_no_step(tmp_path: Path) -> None:
    config = config_of(tmp_path, steps=300)
    port = free_port()
    root = Path(__file__).parents[2]
    patience = {"RAY_JOB_STOP_WAIT_TIME_S": "60", "PYTHONPATH": str(root)}
    with nodes(head_cpus=1, dashboard_port=port, environment=patience) as cluster:
        cluster.add(1)
        cluster.add(1)
        address = f"http://127.0.0.1:{port}"

        def submit(name: str, *how: str) -> str:
            line = [sys.executable, "-m", "jobs.train", *command(config)]
            done = ray_job(address, "submit", "--submission-id", name, *how, "--", *line, folder=str(root))
            return done.stdout + done.stderr

        submit("first", "--no-wait")
        deadline = time.monotonic() + 120
        while not reaches(config, 30)() and time.monotonic() < deadline:
            time.sleep(0.1)
        ray_job(address, "stop", "first", folder=str(tmp_path))
        deadline = time.monotonic() + 60
        status = ""
        while "STOPPED" not in status.upper() and time.monotonic() < deadline:
            status = ray_job(address, "status", "first", folder=str(tmp_path)).stdout
        assert "STOPPED" in status.upper(), status
        logs = ray_job(address, "logs", "first", folder=str(tmp_path)).stdout
        stopped = re.search(r"stopped with a checkpoint of step (\d+)", logs)
        assert stopped, logs[-3000:]
        assert int(stopped[1]) == checkpoint.steps(config.output)[-1] < 300
        said = submit("second")
        assert f"resuming from the checkpoint of step {stopped[1]}" in said, said[-3000:]
    check(config, uninterrupted(config, tmp_path))
