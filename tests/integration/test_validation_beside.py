"""jobs.train with validation in a process of its own: the scores are those of validation inline, come what may."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.training.checkpoints import checkpoint
from pipeline.training.config.train import TrainConfig
from pipeline.training.config.validation import Validation
from pipeline.training.monitor import metrics
from tests.chaos.driver import Driver
from tests.integration.test_train import check, workers
from tests.jobs.test_train_cli import flags
from tests.pipeline.training import small


def config_of(folder: Path, **changes: Any) -> TrainConfig:
    store = small.write_pairs(str(folder / "store"), 7)
    held_out = small.write_pairs(str(folder / "held_out"), 3)
    return small.pix2pix(
        store,
        str(folder / "run"),
        validation=Validation(input=held_out, every=20),
        **{"steps": 70, "checkpoint_every": 10, "keep_checkpoints": 1, "log_every": 10, **changes},
    )


def drive(config: TrainConfig, log: Path) -> Driver:
    cadence = ["--checkpoint_every", "10", "--keep_checkpoints", "1", "--log_every", "10", "--steps", str(config.steps)]
    validation = ["--validation.input", config.validation.input, "--validation.every", "20"]
    # Of two cores or more one is left.
    return Driver("train", [*flags(config), *cadence, *validation, "--cpus_per_worker", "1"], log, {})


def validators(driver: Driver) -> list[int]:
    """The processes that validate."""
    return [pid for pid in driver.alive() if b"BesideValidator" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def history_of(run: str) -> list[Mapping[str, Any]]:
    return checkpoint.read_record(run, checkpoint.steps(run)[-1]).about["validation"]


def check_scores(config: TrainConfig, folder: Path) -> None:
    """They, and all else, are those of a run in one process."""
    expected = str(folder / "inline")
    small.train_here(replace(config, output=expected))
    check(config, expected)
    assert [entry["step"] for entry in history_of(config.output)] == [*range(20, config.steps or 0, 20), config.steps]
    assert history_of(config.output) == history_of(expected)
    assert [line.get("validation") for line in metrics.read_metrics(config.output)] == [
        line.get("validation") for line in metrics.read_metrics(expected)
    ]


def test_another_process_than_the_one_that_trains_measures(tmp_path: Path) -> None:
    config, log = config_of(tmp_path), tmp_path / "log"
    with drive(config, log) as driver:
        assert driver.wait_for(lambda: bool(validators(driver)) and bool(workers(driver))), log.read_text()[-3000:]
        assert not {*validators(driver)} & {*workers(driver)}
        assert driver.wait() == 0, log.read_text()[-3000:]
    said = log.read_text()
    assert "validation beside training, on 1 CPU of its own" in said
    assert "has failed" not in said
    check_scores(config, tmp_path)


@pytest.mark.long
def test_a_validator_that_is_killed_costs_no_score(tmp_path: Path) -> None:
    config, log = config_of(tmp_path, steps=590), tmp_path / "log"
    with drive(config, log) as driver:
        assert driver.wait_for(lambda: bool(validators(driver))), log.read_text()[-3000:]
        os.kill(validators(driver)[0], signal.SIGKILL)
        assert driver.wait() == 0, log.read_text()[-3000:]
    assert log.read_text().count("validation beside training has failed (") == 1
    assert "resuming" not in log.read_text()
    check_scores(config, tmp_path)


@pytest.mark.long
def test_a_validated_run_that_is_killed_ends_the_same(tmp_path: Path) -> None:
    config = config_of(tmp_path, steps=130)
    for step in (30, 70):
        with drive(config, tmp_path / f"{step}.log") as driver:
            assert driver.wait_for(lambda: checkpoint.steps(config.output)[-1:] >= [step])  # noqa: B023
            driver.kill()
    with drive(config, tmp_path / "log") as driver:
        assert driver.wait() == 0, (tmp_path / "log").read_text()[-3000:]
    check_scores(config, tmp_path)
