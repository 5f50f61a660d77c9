"""Checkpoint writer: when it writes, that training continues meanwhile, and what a failing storage costs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline import storage
from pipeline.training.checkpoints import checkpoint
from pipeline.training.checkpoints.checkpoint import CheckpointError
from pipeline.training.checkpoints.writer import CheckpointWriter
from tests.pipeline.training import small


def writer_of(run: str, **changes: object) -> CheckpointWriter:
    return CheckpointWriter(small.pix2pix("memory://none", run, **changes), {})


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Make the storage refuse every write while the list is not empty, since a test cannot fill a disk."""
    full: list[bool] = []
    write = storage.replace

    def replace(url: str, data: bytes) -> None:
        if full:
            raise OSError(28, "No space left on device", url)
        write(url, data)

    monkeypatch.setattr(storage, "replace", replace)
    return full


def test_it_is_due_after_steps_or_after_minutes(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("pipeline.training.checkpoints.writer.time.monotonic", lambda: now)
    writer = writer_of("memory://writer/due", checkpoint_every=10, checkpoint_minutes=2.0)
    assert [step for step in range(1, 31) if writer.due(step)] == [10, 20, 30]
    now += 119
    assert not writer.due(11)
    now += 1
    assert writer.due(11)
    writer.save(11, {})
    assert not writer.due(12)


def test_what_is_saved_is_the_state_as_it_was(said: list[str]) -> None:
    run = "memory://writer/copied"
    writer, weight = writer_of(run), torch.zeros(3)
    writer.save(1, {"networks": {"g": {"weight": weight}, "sizes": [weight, 2]}})
    weight.add_(1)
    writer.finish()
    found = checkpoint.read_part(run, checkpoint.read_record(run, 1), "networks")
    assert found["g"]["weight"].tolist() == [0, 0, 0]
    assert [found["sizes"][0].tolist(), found["sizes"][1]] == [[0, 0, 0], 2]


def test_the_newest_and_the_best_stay(said: list[str]) -> None:
    run = "memory://writer/best"
    writer = writer_of(run, keep_checkpoints=2)
    for step in range(1, 7):
        writer.save(step, {}, also=[2] if step > 2 else [])
    writer.finish()
    assert checkpoint.steps(run) == [2, 5, 6]


def test_a_failed_write_is_said_and_the_last_good_one_stays(said: list[str], full_disk: list[bool]) -> None:
    run = "memory://writer/full"
    writer = writer_of(run)
    writer.save(1, {})
    writer.wait()
    full_disk.append(True)
    writer.save(2, {})
    writer.wait()
    full_disk.clear()
    writer.save(3, {})
    writer.finish()
    assert checkpoint.steps(run) == [1, 3]
    assert len(said) == 1
    assert "checkpoint of step 2 could not be written" in said[0]
    assert "No space left on device" in said[0]
    assert "the last good one is of step 1" in said[0]


def test_several_failures_in_a_row_end_the_run(said: list[str], full_disk: list[bool]) -> None:
    writer = writer_of("memory://writer/never")
    full_disk.append(True)
    for step in (1, 2, 3):
        writer.save(step, {})
    with pytest.raises(CheckpointError, match=r"step 3 .* there is none yet: make room or mend the storage"):
        writer.wait()
    assert len(said) == 2


def test_the_last_one_must_be_written(said: list[str], full_disk: list[bool]) -> None:
    writer = writer_of("memory://writer/last")
    full_disk.append(True)
    writer.save(1, {})
    with pytest.raises(CheckpointError, match="make room"):
        writer.finish()


def test_a_run_whose_checkpoints_fail_ends_with_the_line(tmp_path: Path, full_disk: list[bool]) -> None:
    store = small.write_pairs(str(tmp_path / "store"), 4)
    run = str(tmp_path / "run")
    small.train_here(small.pix2pix(store, run, steps=2))
    full_disk.append(True)
    outcome = small.train_here(small.pix2pix(store, run, steps=30))
    assert "make room" in outcome.failure
    assert outcome.step < 30
    assert checkpoint.steps(run) == [1, 2]
