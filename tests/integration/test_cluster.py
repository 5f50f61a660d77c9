"""Run pack, train, translate and verify on a cluster of several nodes over S3 alone, with a node killed in each.

Every job is submitted; the workers' nodes share nothing but the S3 server. What comes out is compared with runs that
nobody disturbed: the plain loop for pack and translate, plain processes for train.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline import images, storage
from pipeline.training.checkpoints import checkpoint
from tests import corpus
from tests.chaos import child
from tests.chaos.driver import Driver
from tests.chaos.ground import assert_same, crash_at
from tests.cluster import Nodes, free_port, nodes, own_python_first, ray_job
from tests.conftest import new_prefix
from tests.integration.test_train import check, uninterrupted
from tests.jobs.test_train_cli import flags
from tests.pipeline.training import small

pytestmark = pytest.mark.long

_ROOT = Path(__file__).parents[2]
_CPUS = 2


class Submitter:
    """Client that submits to one cluster, and kills a node of it while a job runs."""

    def __init__(self, cluster: Nodes, address: str, folder: Path) -> None:
        self._cluster, self._address, self._folder = cluster, address, folder
        self.submitted = self.killed = 0

    def run(self, name: str, job: Sequence[str], environment: dict[str, str], kill: Callable[[Driver], int]) -> str:
        """Run a job and return its log; meanwhile `kill` waits for its moment and names the node that dies then."""
        log = self._folder / f"{name}.log"
        passed = [token for variable in environment for token in ("--env", variable)]
        command = ["--address", self._address, "--submission_id", name, *passed, *job]
        self.submitted += 1
        with Driver("submit", command, log, environment) as driver:
            self._cluster.kill(kill(driver))
            self.killed += 1
            self._cluster.add(_CPUS)
            assert driver.wait() == 0, log.read_text()[-5000:]
        said = log.read_text()
        assert "\x1b" not in said
        return said

    def run_held(self, name: str, job: Sequence[str]) -> str:
        """Run a job, and kill the node on which its first unit is about to be published."""
        token = self._folder / f"{name}.token"

        def when_held(driver: Driver) -> int:
            held = driver.wait_for(lambda: token.exists() and token.read_text() != "")
            assert held, driver.log.read_text()[-5000:]
            return self._cluster.of_process(int(token.read_text()))

        return self.run(name, job, crash_at("hold:before data", token), when_held)


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> Iterator[str]:
    return new_prefix("s3", request)


def write_pictures(url: str, count: int) -> str:
    """Write A|B images, B the negative of A, and three files that are no images."""
    for i in range(count):
        a = corpus.picture(i, small.SIZE, small.SIZE)
        pair = images.encode(np.concatenate([a, 255 - a], axis=1), images.Encoding(codec="png"))
        storage.replace(storage.join(url, f"{i:03d}.png"), pair)
    for name, data in {"empty.png": b"", "text.jpg": b"no picture at all", "cut.png": pair[: len(pair) // 2]}.items():
        storage.replace(storage.join(url, name), data)
    return url


@pytest.mark.timeout(900)
def test_a_node_is_killed_in_each_job_and_the_outputs_are_the_same(
    prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = write_pictures(f"{prefix}/in", 24)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with nodes(head_cpus=0, dashboard_port=port, environment=own_python_first()) as cluster:
        for _ in range(2):
            cluster.add(_CPUS)
        submitter = Submitter(cluster, address, tmp_path)

        pack = [
            "--input",
            pictures,
            "--layout",
            "pairs",
            "--split",
            "train",
            "0.5",
            "test",
            "0.5",
            "--limits.rows",
            "5",
        ]
        submitter.run_held("pack", ["pack", *pack, "--output", f"{prefix}/store"])
        assert child.run("pack", [*pack, "--output", f"{prefix}/clean", "--local"], {}) == 0
        for split in ("train", "test"):
            assert_same(corpus.contents(f"{prefix}/store/{split}"), corpus.contents(f"{prefix}/clean/{split}"))

        cadence = {"steps": 150, "workers": 2, "checkpoint_every": 10, "keep_checkpoints": 3, "log_every": 20}
        config = small.pix2pix(f"{prefix}/store/train", f"{prefix}/run", **cadence)
        train = [*flags(config), "--checkpoint_every", "10", "--log_every", "20", "--steps", "150", "--workers", "2"]

        def when_trained(driver: Driver) -> int:
            assert driver.wait_for(lambda: checkpoint.steps(config.output)[-1:] >= [30]), driver.log.read_text()[-5000:]
            return cluster.running("RayTrainWorker")[0]

        said = submitter.run("train", ["train", *train, "--cpus_per_worker", "1"], {}, when_trained)
        assert "resuming from the checkpoint of step" in said
        check(config, uninterrupted(dataclasses.replace(config), tmp_path))

        translate = ["--input", f"{prefix}/store/test", "--bundle", f"{prefix}/run/bundle", "--limits.rows", "4"]
        translate += ["--size", "training", "--resources.threads", "1", "--keep_source"]
        submitter.run_held("translate", ["translate", *translate, "--output", f"{prefix}/out"])
        assert child.run("translate", [*translate, "--output", f"{prefix}/out-clean", "--local"], {}) == 0
        assert_same(corpus.contents(f"{prefix}/out"), corpus.contents(f"{prefix}/out-clean"))

        verify = ["--working-dir", ".", "--", "python", "-m", "jobs.verify", "--input", f"{prefix}/out"]
        proved = ray_job(address, "submit", *verify, folder=str(_ROOT))
        assert proved.returncode == 0, proved.stdout + proved.stderr
        assert "0 skipped" in proved.stdout
        assert ": whole" in proved.stdout

        local = ["pack", "--input", str(_ROOT / "docs"), "--output", str(tmp_path / "out")]
        with Driver("submit", ["--address", address, *local], tmp_path / "local.log", {}) as driver:
            assert driver.wait() == 2
        assert "a path on one node's disk, and the cluster has" in (tmp_path / "local.log").read_text()
        assert not (tmp_path / "out").exists()
    with capsys.disabled():
        print(f"\nsubmitted {submitter.submitted + 2} jobs, killed {submitter.killed} nodes")
