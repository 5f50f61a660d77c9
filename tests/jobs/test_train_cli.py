"""Tests of jobs.train through its command line, as far as it needs no Ray: refusals, and work that is left."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from jobs import train
from pipeline import storage
from pipeline.training import record, run
from pipeline.training.config.train import TrainConfig
from pipeline.training.config.validation import Validation
from pipeline.training.monitor import watch
from tests.pipeline.training import small


@pytest.fixture
def store(tmp_path: Path) -> str:
    return small.write_pairs(str(tmp_path / "store"), 4)


def flags(config: TrainConfig) -> list[str]:
    """Return the command line of the small run of pix2pix."""
    return [
        "--input", config.input, "--output", config.output, "--generator.width", "4", "--generator.depth", "5",
        "--discriminator.width", "4", "--discriminator.layers", "2", "--global_batch", "3",
        "--load_size", str(small.SIZE), "--crop_size", "32", "--steps", "7", "--precision", "fp32",
    ]  # fmt: skip


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Return the one line that is printed about an unusable command line."""
    assert train.main(argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_what_cannot_work_is_one_line_and_exit_code_2(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = flags(small.pix2pix(store, str(tmp_path / "run")))
    assert "nothing there" in refused(capsys, *command, "--input", str(tmp_path / "nowhere"))
    single = small.write_store(str(tmp_path / "single"), image=[small.picture(1)])
    assert "no image column image_a" in refused(capsys, *command, "--input", single)
    assert "memory://" in refused(capsys, *command, "--output", "memory://run")
    assert "lower workers to 3" in refused(capsys, *command, "--workers", "4")
    assert "needs a multiple of 32" in refused(capsys, *command, "--crop_size", "30")
    assert "raise memory_gb" in refused(capsys, *command, "--memory_gb", "0.00001", "--streaming", "memory")
    assert "did you mean" in refused(capsys, *command, "--checkpoint_evry", "3")
    assert not (tmp_path / "run").exists()


def test_an_output_that_cannot_be_written_is_refused(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert str(tmp_path / "file") in refused(capsys, *flags(small.pix2pix(store, str(tmp_path / "file" / "run"))))


def test_a_dry_run_says_what_it_would_do_and_touches_nothing(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([*flags(small.pix2pix(store, str(tmp_path / "run"))), "--dry_run"]) == 0
    assert "4 images of" in (said := capsys.readouterr().out)
    assert "7 steps of 3" in said
    assert not (tmp_path / "run").exists()


def test_a_run_killed_before_its_bundle_gets_it_and_then_there_is_nothing_to_do(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small.pix2pix(store, str(tmp_path / "run"))
    small.train_here(config)
    assert train.main(flags(config)) == 0
    assert "trained: 7 steps" in capsys.readouterr().out
    bundle = json.loads(storage.read(f"{config.output}/bundle/config.json"))
    assert bundle["provenance"]["step"] == 7
    page = storage.read(f"{config.output}/report.html").decode()
    assert "<h2>Losses</h2>" in page
    assert "g_l1" in page
    assert "data:image/webp;base64" in page
    assert f"python -m jobs.train --input {config.input}" in re.sub("<[^>]*>", "", page)
    files = {entry.name: entry.version for entry in storage.list_files(config.output)}
    assert train.main(flags(config)) == 0
    assert "was trained already, nothing to do" in capsys.readouterr().out
    assert {entry.name: entry.version for entry in storage.list_files(config.output)} == files


def test_another_recipe_under_the_same_run_is_refused_with_the_difference(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small.pix2pix(store, str(tmp_path / "run"))
    small.train_here(config)
    assert train.main(flags(config)) == 0
    capsys.readouterr()
    assert "learning_rate was 0.0002 and is 0.1 now" in refused(capsys, *flags(config), "--learning_rate", "0.1")


def test_a_place_with_other_files_is_no_place_for_a_run(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small.pix2pix(store, str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run/report.html").write_text("theirs")
    assert "holds 1 other files, such as report.html" in refused(capsys, *flags(config))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["report.html"]


def test_a_run_that_validation_has_ended_is_trained_until_it_may_go_on(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch.Validator, "measure", lambda self, networks: {"l1": 0.5})
    validation = Validation(input=store, every=2, patience=1)
    config = small.pix2pix(store, str(tmp_path / "run"), validation=validation)
    assert small.train_here(config).step == 4
    patient = [*flags(config), "--validation.input", store, "--validation.every", "2", "--validation.patience"]
    assert train.main([*patient, "1"]) == 0
    assert "trained: 4 steps" in capsys.readouterr().out
    assert train.main([*patient, "1"]) == 0
    assert "was trained already, nothing to do: 4 steps" in capsys.readouterr().out
    plan = run.prepare(small.pix2pix(store, config.output, validation=Validation(input=store, every=2, patience=2)))
    assert record.finished(plan.config, plan.total_steps) is None


def test_what_cannot_be_watched_is_refused(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = flags(small.pix2pix(store, str(tmp_path / "run")))
    nowhere = str(tmp_path / "nowhere")
    assert nowhere in refused(capsys, *command, "--validation.input", nowhere)
    line = refused(capsys, *command, "--validation.input", store, "--validation.metric", "cycle_l1")
    assert "pix2pix has kid, l1, psnr, ssim" in line
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'transdomain[wandb]'" in refused(capsys, *command, "--watch.wandb", "faces")
    line = refused(capsys, *command, "--validation.input", store, "--validation.metric", "kid")
    assert "pip install 'transdomain[metrics]'" in line


def test_a_report_that_cannot_be_made_is_said_and_the_run_is_complete(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("no report")

    config = small.pix2pix(store, str(tmp_path / "run"))
    small.train_here(config)
    monkeypatch.setattr("pipeline.training.run.training_report", broken)
    assert train.main(flags(config)) == 0
    assert "report.html was not written: ZeroDivisionError: no report" in caplog.text
    assert (tmp_path / "run/result.json").exists()
