"""Local cluster for real: it starts, asks for its token, takes a job, is scraped, is drained, and leaves nothing."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from pipeline.cluster.telemetry import METRICS
from tests.infra import driver
from tests.infra.manifests import INFRA, ROOT

SCRIPT = str(INFRA / "local-cluster.sh")
WAIT_S = 300

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
Environment = Mapping[str, str]


@pytest.fixture(scope="module")
def local_cluster() -> Iterator[Environment]:
    """Return the environment that lets a process use the cluster."""
    with tempfile.TemporaryDirectory(prefix="lc-", dir="/tmp") as folder:
        # The script finds `ray` next to this interpreter, and nothing of what other tests have set.
        path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        clean |= {"TRANSDOMAIN_CLUSTER": f"{folder}/c", "PATH": path, "PYTHONPATH": str(ROOT)}
        run(clean, SCRIPT, "start", "2", "1")
        pids = [int(line) for line in Path(folder, "c", "pids").read_text().split()]
        try:
            exports = run(clean, SCRIPT, "env")
            found = dict(shlex.split(line)[1].split("=", 1) for line in exports.splitlines())
            yield clean | found
        finally:
            run(clean, SCRIPT, "stop")
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        assert folder not in "".join(_command_lines())
        assert not Path(folder, "c").exists()


def _command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().decode(errors="replace")
        except OSError:
            continue


def run(environment: Environment, *command: str, code: int = 0) -> str:
    """Run `command`, which must end with `code`, and return what it prints."""
    done = subprocess.run(
        command, env=dict(environment), cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def until(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not found():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.5)


def test_it_takes_a_job_from_who_has_the_token(local_cluster: Environment) -> None:
    job = ["ray", "job", "submit", "--", "python", "-c", "print(6 * 7)"]
    assert re.search(r"^42$", run(local_cluster, *job), re.MULTILINE)
    stranger = {**local_cluster, "RAY_AUTH_TOKEN": "0" * 64}
    assert "Invalid authentication token" in run(stranger, *job, code=1)


def test_who_has_no_token_cannot_join(local_cluster: Environment) -> None:
    join = [sys.executable, "-c", "import ray; ray.init(logging_level='ERROR'); print('got in', len(ray.nodes()))"]
    assert "got in 3" in run(local_cluster, *join)
    without = {k: v for k, v in local_cluster.items() if not k.startswith("RAY_AUTH")}
    without["RAY_NUM_REDIS_GET_RETRIES"] = "1"  # otherwise it tries for twenty seconds
    for mode in ({}, {"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}):
        said = run(without | mode, *join, code=1)
        assert re.search("InvalidAuthToken|AuthenticationError", said)
        assert "got in" not in said


_ONE_AFTER_THE_OTHER = """
import os, ray
from pipeline.cluster import connection
address = os.environ.pop("RAY_ADDRESS")
with connection.connect():
    print("own", len(ray.nodes()))
os.environ["RAY_ADDRESS"] = address
for _ in range(2):
    with connection.connect():
        print("theirs", len(ray.nodes()))
"""


def test_one_process_starts_a_ray_of_its_own_and_then_joins_this_one(local_cluster: Environment) -> None:
    """Each Ray has its own token."""
    said = run(local_cluster, sys.executable, "-c", _ONE_AFTER_THE_OTHER)
    assert re.findall(r"^(?:own|theirs) \d$", said, re.MULTILINE) == ["own 1", "theirs 3", "theirs 3"]


def test_a_second_start_is_refused(local_cluster: Environment) -> None:
    assert "there is one" in run(local_cluster, SCRIPT, "start", code=1)


def test_prometheus_finds_every_metric(local_cluster: Environment, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    process = subprocess.Popen([sys.executable, "-m", "tests.infra.driver", str(seen)], env=local_cluster, cwd=ROOT)
    samples: dict[str, float] = {}

    def scraped() -> bool:
        assert process.poll() is None
        with urllib.request.urlopen(local_cluster["TRANSDOMAIN_METRICS"], timeout=10) as answer:
            samples.update(_samples(answer.read().decode()))
        return {f"ray_{name}" for name in METRICS} <= {each.split("{")[0] for each in samples}

    try:
        until(scraped)
    finally:
        seen.touch()
        assert process.wait(WAIT_S) == 0
    line = driver.STANDING.line or {}
    assert {name: value for name, value in samples.items() if "transdomain" in name} == {
        "ray_transdomain_images_total{outcome=ok}": 11,
        "ray_transdomain_images_total{outcome=quarantined}": 2,
        "ray_transdomain_images_total{outcome=skipped}": 1,
        "ray_transdomain_units_total{status=done}": 2,
        "ray_transdomain_units_total{status=failed}": 1,
        "ray_transdomain_units_planned": 3,
        "ray_transdomain_train_step": 30,
        "ray_transdomain_train_steps_planned": 100,
        "ray_transdomain_train_images_per_second": 4.5,
        "ray_transdomain_train_data_wait_ratio": 0.25,
        "ray_transdomain_train_learning_rate": 2e-4,
        "ray_transdomain_train_loss{loss=g_l1}": 1.5,
        "ray_transdomain_train_loss{loss=d}": line["losses"]["d"],
        "ray_transdomain_train_validation{score=kid}": line["validation"]["kid"],
    }
    drawn = set(re.findall(r"\bray_\w+", json.loads((INFRA / "monitoring/dashboard.json").read_text()).__str__()))
    of_gpus = {"ray_node_gpus_utilization", "ray_node_gram_used"}
    assert drawn - of_gpus - {"ray_transdomain_"} <= {name.split("{")[0] for name in samples}


def _samples(text: str) -> Iterator[tuple[str, float]]:
    """Parse the exposition format into names, each with our one label, and values."""
    labels = "|".join(metric.label for metric in METRICS.values() if metric.label)
    for name, inside, value in re.findall(r"^(ray_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        own = re.findall(rf"(?:^|,)({labels})=\"(\w+)\"", inside) if name.startswith("ray_transdomain") else []
        assert not name.startswith("ray_transdomain") or f'output="{driver.OUTPUT}"' in inside
        yield name + "".join(f"{{{label}={text}}}" for label, text in own), float(value)


# Both workers are kept busy meanwhile, since an idle one ends at once.
_DRAINING = """
import subprocess, sys, time, ray
from ray._private.state import state
ray.init(logging_level="ERROR", log_to_driver=False)

@ray.remote(num_cpus=1)
class Busy:
    def ready(self):
        return True

busy = [Busy.remote() for _ in range(2)]
assert all(ray.get([each.ready.remote() for each in busy]))
subprocess.run([sys.executable, "infra/drain.py", "worker", "1"], check=True)
names = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
print("draining", *(names[node] for node in state.get_draining_nodes()))
"""


def test_a_worker_that_goes_is_announced(local_cluster: Environment) -> None:
    said = run({**local_cluster, "POD_IP": "127.0.0.4"}, sys.executable, "-c", _DRAINING)
    assert "draining 127.0.0.4\n" in said


_STOPPED = """
import pathlib, signal, sys, time
def stop(signum, frame):
    time.sleep(4)  # longer than Ray's own patience
    pathlib.Path(sys.argv[1]).write_text("checkpoint")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
pathlib.Path(sys.argv[1]).write_text("running")
while True:
    time.sleep(0.1)
"""


def test_a_head_that_goes_leaves_its_jobs_their_checkpoint(local_cluster: Environment, tmp_path: Path) -> None:
    script, state = tmp_path / "job.py", tmp_path / "state"
    script.write_text(_STOPPED)
    run(local_cluster, "ray", "job", "submit", "--no-wait", "--", sys.executable, str(script), str(state))
    until(state.exists)
    run(local_cluster, sys.executable, "infra/drain.py", "head", "60")
    assert state.read_text() == "checkpoint"


def test_a_dead_node_is_no_hindrance_to_stopping(local_cluster: Environment) -> None:
    """The fixture's end checks the rest."""
    pids = Path(local_cluster["TRANSDOMAIN_CLUSTER"], "pids").read_text().split()
    os.kill(int(pids[-1]), signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pids[-1]}").exists())
