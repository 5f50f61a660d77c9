"""Training through Ray Train: killed and run again, it ends with the bits of an uninterrupted run."""

from __future__ import annotations

import dataclasses
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gan_models import load_bundle
from jobs import train
from pipeline import storage
from pipeline.cluster import connection
from pipeline.training.checkpoints import checkpoint
from pipeline.training.config.train import TrainConfig
from pipeline.training.monitor import metrics
from tests.chaos.driver import Driver, command_line
from tests.conftest import new_prefix
from tests.jobs.test_train_cli import flags
from tests.pipeline.training import small
from tests.pipeline.training.data.test_feed import first_use

_STEPS = 120


def config_of(store: str, run: str, workers: int, **changes: Any) -> TrainConfig:
    cadence = {"steps": _STEPS, "checkpoint_every": 10, "keep_checkpoints": 3, "log_every": 20}
    return small.pix2pix(store, run, workers=workers, **cadence, **changes)


def command_of(config: TrainConfig) -> list[str]:
    cadence = ["--checkpoint_every", "10", "--log_every", "20", "--steps", str(config.steps)]
    # A third of a core each where there are three: one thread each, whatever the machine.
    share = ["--cpus_per_worker", "0.5", "--workers", str(config.workers)]
    data = ["--streaming", config.streaming, "--shuffle_buffer", str(config.shuffle_buffer)]
    return [*flags(config), *cadence, *share, *data]


def drive(config: TrainConfig, log: Path) -> Driver:
    return Driver("train", command_of(config), log, {})


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """Keep one Ray in this process for the runs of which nothing is killed: each start of it takes seconds."""
    with connection.connect():
        yield


@pytest.fixture
def run_here(ray_here: None, interruptible: None, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Return a function that runs jobs.train on that Ray, and gives its exit code and all that it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        code = train.main(arguments)
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def kill_after(config: TrainConfig, step: int, log: Path) -> None:
    """Start the run and kill its driver once it has reached the checkpoint of `step`."""
    with drive(config, log) as driver:
        assert driver.wait_for(lambda: checkpoint.steps(config.output)[-1:] >= [step]), log.read_text()[-3000:]
        driver.kill()


def finish(config: TrainConfig, log: Path) -> str:
    with drive(config, log) as driver:
        assert driver.wait() == 0, log.read_text()[-3000:]
    return log.read_text()


def workers(driver: Driver) -> list[int]:
    """Return the processes that train."""
    return [pid for pid in driver.alive() if "RayTrainWorker" in command_line(pid)]


def uninterrupted(config: TrainConfig, folder: Path) -> str:
    """Train the same run without Ray, in plain processes that nobody kills, or in this one where one is enough."""
    plain = dataclasses.replace(config, output=str(folder / "uninterrupted"), min_workers=None)
    if config.workers == 1:
        small.train_here(plain)
    else:
        small.train_in_processes(config.workers, [plain], folder)
    return plain.output


def check(config: TrainConfig, expected: str) -> None:
    """Check that the run has ended like the one in `expected`, and so has its bundle."""
    small.assert_same_bits(small.final_state(config.output), small.final_state(expected))
    found, wanted = metrics.read_metrics(config.output), metrics.read_metrics(expected)
    assert [(line["step"], line["losses"]) for line in found] == [(line["step"], line["losses"]) for line in wanted]
    bundle = load_bundle(lambda name: storage.read(storage.join(config.output, f"bundle/{name}")))
    record = checkpoint.read_record(expected, checkpoint.steps(expected)[-1])
    small.assert_same_bits(bundle.generator().state_dict(), checkpoint.read_part(expected, record, "networks")["g"])


def stop_after(config: TrainConfig, step: int, log: Path, wish: signal.Signals) -> int:
    """Start the run, ask its driver to stop at the checkpoint of `step` or soon after, and return where it stopped."""
    with drive(config, log) as driver:
        assert driver.wait_for(lambda: checkpoint.steps(config.output)[-1:] >= [step]), log.read_text()[-3000:]
        driver.signal(wish)
        assert driver.wait(30) == 130
    said = log.read_text()
    assert "the same command goes on from here: python -m jobs.train" in said
    stopped = re.search(r"stopped with a checkpoint of step (\d+)", said)
    assert stopped
    assert int(stopped[1]) == checkpoint.steps(config.output)[-1] < config.steps
    return int(stopped[1])


@pytest.mark.long
def test_a_run_of_two_workers_that_is_stopped_and_killed_ends_with_the_same_bits(tmp_path: Path) -> None:
    config = config_of(small.write_pairs(str(tmp_path / "store"), 7), str(tmp_path / "run"), workers=2)
    config = dataclasses.replace(config, steps=250)  # a stop request and a kill take a while, in which the run goes on
    stopped = stop_after(config, 20, tmp_path / "stopped.log", signal.SIGTERM)
    kill_after(config, stopped // 10 * 10 + 20, tmp_path / "killed.log")
    said = finish(config, tmp_path / "finished.log")
    resumed = re.search(r"resuming from the checkpoint of step (\d+)", said)
    assert resumed
    assert stopped < int(resumed[1]) < config.steps
    assert "not bit for bit" not in said
    assert f"trained: {config.steps} steps" in said
    check(config, uninterrupted(config, tmp_path))


def test_ctrl_c_loses_no_step(tmp_path: Path, run_here: Callable[..., tuple[int, str]]) -> None:
    """The run has one worker; that several stop after the same step needs no Ray, and is tested without."""
    config = config_of(small.write_pairs(str(tmp_path / "store"), 7), str(tmp_path / "run"), workers=1)
    config = dataclasses.replace(config, steps=100)  # a stop request takes a while, in which the run goes on

    def stop() -> None:
        deadline = time.monotonic() + 120
        while not checkpoint.steps(config.output) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    (stopping := threading.Thread(target=stop)).start()
    code, said = run_here(*command_of(config))
    stopping.join()
    assert code == 130, said
    assert "the same command goes on from here: python -m jobs.train" in said
    stopped = checkpoint.steps(config.output)[-1]
    assert f"stopped with a checkpoint of step {stopped}\n" in said
    assert stopped < config.steps
    code, said = run_here(*command_of(config))
    assert code == 0, said
    assert f"resuming from the checkpoint of step {stopped}" in said
    check(config, uninterrupted(config, tmp_path))


@pytest.mark.long
def test_a_streamed_image_that_turns_out_bad_ends_the_run_at_once(
    tmp_path: Path, run_here: Callable[..., tuple[int, str]]
) -> None:
    """There is one line, exit code 1, and no start of the workers but the first."""
    config = bad_in_the_middle(tmp_path)
    code, said = run_here(*command_of(config))
    assert code == 1, said
    found = re.search(r"\ntrain: .*\.parquet: image_b of '(\d+)' cannot be decoded \(.*of step (\d+), from which", said)
    assert found, said
    assert said.splitlines()[-1].startswith("train: ")
    assert said.count("samples in") == 1  # each start begins with this line
    assert checkpoint.steps(config.output) == [int(found[2])]
    assert int(found[2]) >= 1


def bad_in_the_middle(folder: Path) -> TrainConfig:
    """Prepare a streamed run of two workers in which an image that is needed after some steps is truncated."""
    good, store = small.encoded(small.picture(0)), str(folder / "store")
    small.write_store(store, shards=8, image_a=[good] * 8, image_b=[good] * 8)
    config = config_of(store, str(folder / "run"), workers=2, streaming="stream", shuffle_buffer=1)
    bad = next(row for row in range(8) if first_use(config, row)[0] > 1)
    images = [good[:200] if row == bad else good for row in range(8)]
    small.write_store(store, shards=8, image_a=[good] * 8, image_b=images)
    return config


def test_workers_that_find_no_place_are_refused_before_the_start(
    tmp_path: Path, run_here: Callable[..., tuple[int, str]]
) -> None:
    config = config_of(small.write_pairs(str(tmp_path / "store"), 4), str(tmp_path / "run"), workers=1)
    code, said = run_here(*flags(config), "--cpus_per_worker", "1000")
    assert code == 2
    assert "workers is 1, each takes 1000 CPU: the cluster" in said


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["local", "s3"])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_run_killed_at_random_steps_ends_with_the_same_bits(
    kind: str, workers: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Kill the running driver four times: once as it starts, three times at random steps; on a disk and on S3.

    24 kills in all.
    """
    prefix = new_prefix(kind, request)
    config = config_of(small.write_pairs(f"{prefix}/store", 7), f"{prefix}/run", workers)
    config = dataclasses.replace(config, steps=300)
    chance = random.Random(f"{kind} {workers}")
    for number, step in enumerate([0, *sorted(chance.sample(range(10, 240, 10), 3))]):
        with drive(config, tmp_path / f"{number}.log") as driver:
            if step:
                assert driver.wait_for(lambda step=step: checkpoint.steps(config.output)[-1:] >= [step])  # type: ignore[misc]
                time.sleep(chance.uniform(0, 0.3))
            else:
                time.sleep(chance.uniform(2, 9))
            assert driver.running()
            driver.kill()
    finish(config, tmp_path / "finished.log")
    check(config, uninterrupted(config, tmp_path))


@pytest.mark.long
def test_a_killed_worker_is_replaced_and_the_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    config = config_of(small.write_pairs(str(tmp_path / "store"), 7), str(tmp_path / "run"), workers=2)
    log = tmp_path / "log"
    with drive(config, log) as driver:
        assert driver.wait_for(lambda: checkpoint.steps(config.output)[-1:] >= [20]), log.read_text()[-3000:]
        os.kill(workers(driver)[0], signal.SIGKILL)
        assert driver.wait() == 0, log.read_text()[-3000:]
    assert "resuming from the checkpoint of step" in log.read_text()
    check(config, uninterrupted(config, tmp_path))


@pytest.mark.long
def test_cyclegan_trains_by_its_recipe_file(tmp_path: Path) -> None:
    store = small.write_unpaired(str(tmp_path / "store"), 5, 4)
    command = ["--config", "jobs/recipes/cyclegan.yaml", "--input", store, "--output", str(tmp_path / "run")]
    smaller = ["--generator.width", "4", "--generator.depth", "1", "--discriminator.width", "4", "--load_size", "36"]
    length = ["--crop_size", "32", "--epochs", "1", "--decay_epochs", "1"]
    with Driver("train", [*command, *smaller, *length], tmp_path / "log", {}) as driver:
        assert driver.wait() == 0, (tmp_path / "log").read_text()[-3000:]
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert bundle.directions == ("a_to_b", "b_to_a")
