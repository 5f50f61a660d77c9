"""Ray inside a job, seen from outside: who gets in, what is left behind, what is said when a part of it is killed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.training.checkpoints import checkpoint
from tests import sockets
from tests.chaos.driver import Driver, command_line
from tests.chaos.ground import Ground, crash_at
from tests.jobs.test_train_cli import flags
from tests.pipeline.training import small

_INTRUDER = """
import ray, sys
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
print("got in:", len(ray.nodes()))
"""


class Held(NamedTuple):
    """Job that waits in a stage, for ever."""

    driver: Driver
    home: Path

    def process(self, title: str) -> int:
        """Return the first process with `title` in its command line."""
        return next(pid for pid in self.driver.alive() if title in command_line(pid))


def hold(folder: Path) -> Iterator[Held]:
    ground, home, token = Ground(str(folder / "store"), folder), folder / "home", folder / "token"
    home.mkdir()
    job, arguments = ground.command("pack", ground.new_output())
    environment = {"HOME": str(home), **crash_at("hold:after data", token)}
    with Driver(job, arguments, folder / "log", environment) as driver:
        held = driver.wait_for(lambda: token.exists() and token.read_text() != "")
        assert held, driver.log.read_text()[-3000:]
        yield Held(driver, home)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    yield from hold(tmp_path_factory.mktemp("held"))


def test_everything_listens_on_loopback(held: Held) -> None:
    found = {pid: sockets.listening(pid) for pid in held.driver.alive()}
    assert sum(map(len, found.values())) >= 6  # GCS, raylet, agents, workers, driver
    outside = {command_line(pid)[:60]: there for pid in found if (there := sockets.beyond_loopback(found[pid]))}
    assert not outside


def test_no_process_is_started_that_one_machine_has_no_use_for(held: Held) -> None:
    lines = [command_line(pid) for pid in held.driver.alive()]
    assert any("ray::" in line for line in lines)
    unused = "dashboard/dashboard.py", "/autoscaler/", "ray::_Stats", "ray::_Autoscaling", "ray::ActorLocation"
    assert not [line for line in lines if any(name in line for name in unused)]


def test_who_has_no_token_is_refused_and_nobody_finds_it(held: Held) -> None:
    gcs = held.process("gcs_server")
    [port] = {port for _, port in sockets.listening(gcs)}
    # This client is on this machine, can reach a loopback address, and does not try for long.
    knows = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_NUM_REDIS_GET_RETRIES": "1", "HOME": str(held.home)}
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | knows
    tries = [{}, {"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _INTRUDER, f"127.0.0.1:{port}"],
            env=clean | each,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for each in tries
    ]
    for process in running:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 1, said
        assert "got in" not in said
        assert re.search(r"AuthenticationError|InvalidAuthToken|ConnectionError", said), said

    of_gcs = dict(each.split("=", 1) for each in Path(f"/proc/{gcs}/environ").read_text().split("\0") if "=" in each)
    token = of_gcs["RAY_AUTH_TOKEN"]
    assert len(token) == 64
    assert not [pid for pid in held.driver.alive() if token in command_line(pid)]
    folder = Path(of_gcs["RAY_TMPDIR"])
    written = [path for path in folder.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
    assert not written
    assert token not in held.driver.log.read_text()
    assert not list(held.home.iterdir())


def check_killed(held: Held, title: str, name: str) -> None:
    """Check that the job ends within seconds, and that its last line names what was killed and how to go on."""
    pid = held.process(title)
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    assert held.driver.wait(60) == 1
    assert time.monotonic() - killed < 15
    last = held.driver.log.read_text().splitlines()[-1]
    assert last.startswith(f"pack: Ray's {name} (process {pid}) ")
    assert "; the same command goes on from here: python -m jobs.pack --input " in last


def test_a_killed_gcs_is_named(held: Held) -> None:
    check_killed(held, "gcs_server", "GCS")


@pytest.mark.long
@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("raylet/raylet", "raylet"),
        ("ray::DashboardAgent", "dashboard agent"),
        ("ray::RuntimeEnvAgent", "runtime environment agent"),
    ],
)
def test_a_killed_part_is_named(title: str, name: str, tmp_path: Path) -> None:
    for held in hold(tmp_path):
        check_killed(held, title, name)


def test_the_sockets_of_a_process_are_seen() -> None:
    """The first test sees by this means, which notices a socket that is open to all."""
    with socket.create_server(("0.0.0.0", 0)) as to_all, socket.create_server(("127.0.0.1", 0)) as to_us:
        found = sockets.listening(os.getpid())
        assert {to_all.getsockname(), to_us.getsockname()} <= found
        beyond = sockets.beyond_loopback(found)
        assert to_all.getsockname() in beyond
        assert to_us.getsockname() not in beyond


@pytest.mark.long
def test_training_is_shut_off_too_and_names_a_lost_controller(tmp_path: Path) -> None:
    config = small.pix2pix(small.write_pairs(str(tmp_path / "store"), 7), str(tmp_path / "run"), workers=2)
    cadence = ["--checkpoint_every", "10", "--steps", "1000000", "--cpus_per_worker", "0.5", "--workers", "2"]
    with Driver("train", [*flags(config), *cadence], tmp_path / "log", {}) as driver:
        assert driver.wait_for(lambda: checkpoint.steps(config.output)[-1:] >= [10]), driver.log.read_text()[-3000:]
        outside = {command_line(pid)[:60]: sockets.beyond_loopback(sockets.listening(pid)) for pid in driver.alive()}
        assert not {name: there for name, there in outside.items() if there}
        pid = next(pid for pid in driver.alive() if "TrainController" in command_line(pid))
        os.kill(pid, signal.SIGKILL)
        assert driver.wait(60) == 1
        last = driver.log.read_text().splitlines()[-1]
        assert last.startswith(f"train: Ray's actor TrainController (process {pid}) was lost; the same command goes on")
