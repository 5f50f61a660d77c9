"""Monitored runs: what they report and write, that this changes nothing that is learnt, and when they end early."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.training import loop, record
from pipeline.training.checkpoints import checkpoint
from pipeline.training.config.monitor import WatchConfig
from pipeline.training.config.train import TrainConfig
from pipeline.training.config.validation import Validation
from pipeline.training.data import loader
from pipeline.training.distributed.group import Group
from pipeline.training.monitor import metrics, watch
from pipeline.training.monitor.console import RunProgress
from tests.pipeline.training import small
from tests.pipeline.training.monitor.test_sinks import points, read_back


@pytest.fixture(scope="module")
def pairs() -> str:
    return small.write_pairs("memory://watch/pairs", 7)


@pytest.fixture(scope="module")
def held_out() -> str:
    return small.write_pairs("memory://watch/held_out", 3)


@pytest.fixture(scope="module")
def unpaired() -> str:
    return small.write_unpaired("memory://watch/unpaired", 7, 5)


QUIET = WatchConfig(tensorboard=False, sample_every=0)
SAMPLES = WatchConfig(sample_every=2)


def train(config: TrainConfig) -> tuple[loop.TrainingOutcome, list[str], list[RunProgress]]:
    """Train in this process; return the outcome, the logged lines and the shown progress."""
    shown: list[RunProgress] = []
    task = loop.TrainingTask(config=config, sources=loader.find_sources(config), threads=1)
    with small.logged() as said:
        outcome = loop.train(task, Group(), torch.device("cpu"), show=shown.append)
    return outcome, said, shown


@pytest.mark.parametrize("objective", ["pix2pix", pytest.param("cyclegan", marks=pytest.mark.long)])
def test_watching_changes_no_bit_and_each_step_is_seen_once_after_a_resume(
    objective: str, pairs: str, unpaired: str, held_out: str, tmp_path: Path
) -> None:
    def recipe(run: str, **changes: Any) -> TrainConfig:
        make, store = (small.pix2pix, pairs) if objective == "pix2pix" else (small.cyclegan, unpaired)
        return make(store, f"memory://watch/{objective}/{run}", steps=6, checkpoint_every=3, **changes)

    watched: dict[str, Any] = {
        "validation": Validation(input=held_out if objective == "pix2pix" else unpaired, every=2, images=2),
        "watch": WatchConfig(sample_every=3),
    }
    plain, through, resumed = recipe("plain", watch=QUIET), recipe("through", **watched), recipe("resumed", **watched)
    for config in (plain, through):
        train(config)
    small.assert_same_bits(small.final_state(through.output), small.final_state(plain.output))

    train(recipe("resumed", **watched | {"watch": WatchConfig(sample_every=3)}))
    for step in checkpoint.steps(resumed.output)[-1:]:
        checkpoint.storage.delete(f"{resumed.output}/checkpoints/{step:09d}/record.json")
    train(resumed)
    small.assert_same_bits(small.final_state(resumed.output), small.final_state(plain.output))
    lines, again = metrics.read_metrics(through.output), metrics.read_metrics(resumed.output)
    assert [line.get("validation") for line in again] == [line.get("validation") for line in lines]
    assert [line["step"] for line in lines if "validation" in line] == [2, 4, 6]
    for config in (through, resumed):
        history = checkpoint.read_record(config.output, 6).about["validation"]
        assert [{k: v for k, v in entry.items() if k != "step"} for entry in history] == [
            line["validation"] for line in lines if "validation" in line
        ]
        folder = tmp_path / config.output.rsplit("/", 1)[-1]
        folder.mkdir()
        events = read_back(config.output, folder)
        name = "l1" if objective == "pix2pix" else "cycle_l1"
        assert points(read_back(config.output, folder, "validation"), f"validation/{name}") == [
            (entry["step"], pytest.approx(entry[name])) for entry in history
        ]
        assert [step for step, _ in points(events, "learning_rate")] == [1, 2, 3, 4, 5, 6]
        for generator in ("g",) if objective == "pix2pix" else ("g_AB", "g_BA"):
            assert [image.step for image in events.Images(f"samples/{generator}")] == [3, 6]


def test_a_held_out_image_that_cannot_be_decoded_is_named_before_the_first_step(pairs: str) -> None:
    bad = small.write_store("memory://watch/bad", image_a=[b"no picture"] * 2, image_b=[b"no picture"] * 2)
    config = small.pix2pix(
        pairs, "memory://watch/undecodable", watch=QUIET, validation=Validation(input=bad, every=5, images=2)
    )
    outcome, _, _ = train(config)
    assert outcome.step == 0
    assert "memory://watch/bad/000000.parquet: image_a of '000' cannot be decoded" in outcome.failure


def test_gradient_norms_are_those_of_the_last_update(pairs: str) -> None:
    config = small.pix2pix(pairs, "memory://watch/norms", steps=2, watch=QUIET)
    outcome, _, _ = train(config)
    assert outcome.step == 2
    for line in metrics.read_metrics(config.output):
        assert all(value > 0 for value in line["gradient_norms"].values())
    replica = loop.Replica(small.context(config), "fp32")
    for parameter in replica.objective.networks["g"].parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    count = sum(p.numel() for p in replica.objective.networks["g"].parameters())
    assert watch.gradient_norms(replica) == {"generators": pytest.approx(2 * count**0.5), "discriminators": 0.0}


@pytest.mark.long
def test_two_workers_have_the_gradient_norms_of_one(tmp_path: Path) -> None:
    store = small.write_pairs(str(tmp_path / "pairs"), 6)
    from tests.pipeline.training.test_loop import INSTANCE

    options: dict[str, Any] = {"steps": 2, "watch": QUIET} | INSTANCE
    options["validation"] = Validation(input=store, every=1, images=2)
    one, two = (small.pix2pix(store, str(tmp_path / name), **options) for name in ("one", "two"))
    small.train_here(one)
    small.train_in_processes(2, [two], tmp_path)
    for line, other in zip(metrics.read_metrics(one.output), metrics.read_metrics(two.output), strict=True):
        assert other["gradient_norms"] == pytest.approx(line["gradient_norms"], rel=1e-3)
        assert other["validation"]["l1"] == pytest.approx(line["validation"]["l1"], rel=1e-3)


def test_a_run_that_no_longer_improves_ends_early_and_is_finished(
    pairs: str, held_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.5, 0.4, 0.45, 0.41, 0.1])
    monkeypatch.setattr(watch.Validator, "measure", lambda self, networks: {"l1": next(scores)})
    config = small.pix2pix(
        pairs,
        "memory://watch/early",
        steps=20,
        checkpoint_every=20,
        watch=QUIET,
        validation=Validation(input=held_out, every=2, patience=2),
    )
    outcome, said, _ = train(config)
    assert (outcome.step, outcome.failure) == (8, "")
    assert said[-1] == "step 8: no better l1 in 2 validations than 0.4 at step 4: stopping early"
    assert checkpoint.steps(config.output) == [2, 4, 6, 8]
    assert train(config)[0].step == 8  # started again after a kill before the run was concluded
    history = checkpoint.read_record(config.output, 8).about["validation"]
    assert record.is_last(config, 8, history, 20)
    assert not record.is_last(small.pix2pix(pairs, config.output), 8, history, 20)


def test_other_held_out_images_begin_a_history_of_their_own(
    pairs: str, held_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier images were easier, and the scores on them would end the run."""
    scores = iter([0.1, 0.11, 0.5, 0.4, 0.3, 0.2])
    monkeypatch.setattr(watch.Validator, "measure", lambda self, networks: {"l1": next(scores)})
    run = "memory://watch/others"
    easy, hard = Validation(input=pairs, every=2), Validation(input=held_out, every=2, patience=1)
    train(small.pix2pix(pairs, run, steps=4, watch=QUIET, validation=easy))
    assert train(small.pix2pix(pairs, run, steps=8, watch=QUIET))[0].step == 8
    assert len(checkpoint.read_record(run, 8).about["validation"]) == 2
    outcome, _, _ = train(small.pix2pix(pairs, run, steps=16, watch=QUIET, validation=hard))
    assert outcome.step == 16
    history = checkpoint.read_record(run, 16).about["validation"]
    assert [(entry["step"], entry["l1"]) for entry in history] == [(10, 0.5), (12, 0.4), (14, 0.3), (16, 0.2)]


def test_an_explosion_stops_the_run_with_the_last_good_checkpoint(pairs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch.guards, "_MIN_HISTORY", 3)
    explodes = WatchConfig(tensorboard=False, explosion=1.0000001)
    outcome, _, _ = train(small.pix2pix(pairs, "memory://watch/explodes", steps=60, watch=explodes, learning_rate=0.1))
    assert 3 < outcome.step < 60
    assert f"step {outcome.step}: " in outcome.failure
    assert "times its recent median" in outcome.failure
    assert f"the last good checkpoint is of step {outcome.step - 1}" in outcome.failure


def test_a_run_that_diverges_shows_it_in_its_last_lines(pairs: str) -> None:
    """No checkpoint publishes the last lines, and no time has passed since the last write."""
    run = "memory://watch/diverges"
    config = small.pix2pix(
        pairs, run, steps=50, learning_rate=1e30, lambda_l1=1e30, checkpoint_every=50, watch=WatchConfig()
    )
    outcome, _, _ = train(config)
    lines = metrics.read_metrics(run)
    assert [line["step"] for line in lines] == list(range(1, outcome.step + 1))
    gone = {name for name, value in lines[-1]["losses"].items() if math.isnan(value)}
    assert gone
    assert all(f"{name} is " in outcome.failure for name in gone)


def test_a_loss_that_explodes_right_after_a_resume_is_compared_with_the_earlier_starts(pairs: str) -> None:
    explodes = WatchConfig(tensorboard=False, sample_every=0, explosion=2.0)
    config = small.pix2pix(pairs, "memory://watch/resumed", steps=12, watch=explodes)
    train(config)
    url = f"{config.output}/metrics.jsonl"
    lines = metrics.read_metrics(config.output)
    for line in lines:
        line["losses"] = dict.fromkeys(line["losses"], 1e-3)
    checkpoint.storage.replace(url, "".join(json.dumps(line) + "\n" for line in lines).encode())
    outcome, _, _ = train(dataclasses.replace(config, steps=14))
    assert outcome.step == 13
    assert "g_l1 is " in outcome.failure
    assert "more than 2 times its recent median of 0.001" in outcome.failure


def test_an_idle_discriminator_is_one_warning_an_episode(pairs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch.guards, "_ZERO_BELOW", 1e9)
    monkeypatch.setattr(watch.guards, "_MIN_IDLE_LINES", 3)
    _, said, _ = train(small.pix2pix(pairs, "memory://watch/idle", steps=6, watch=QUIET))
    assert [line.split(":")[0] for line in said if "about zero" in line] == ["step 3"]


def test_a_sample_that_turns_out_bad_is_said_and_no_reason_to_end(pairs: str, said: list[str]) -> None:
    bad = small.write_pairs("memory://watch/bad_samples", 3)
    validation = Validation(input=bad, every=100)
    config = small.pix2pix(pairs, "memory://watch/no_samples", steps=4, validation=validation, watch=SAMPLES)
    asked: list[int] = []

    def spoil_after_the_start() -> bool:
        asked.append(1)
        if len(asked) == 1:
            small.write_store(bad, image_a=[b"no picture"] * 3, image_b=[b"no picture"] * 3)
        return False

    task = loop.TrainingTask(config=config, sources=loader.find_sources(config), threads=1)
    outcome = loop.train(task, Group(), torch.device("cpu"), stop_asked=spoil_after_the_start)
    assert (outcome.step, outcome.failure) == (4, "")
    assert [line for line in said if "no samples: memory://watch/bad_samples/000000.parquet: image_a of '000'" in line]


def test_where_the_run_stands_is_shown_with_its_lines(pairs: str) -> None:
    config = small.pix2pix(pairs, "memory://watch/shown", steps=5, log_every=2, watch=QUIET)
    _, said, shown = train(config)
    assert (shown[0].step, shown[0].total, shown[0].line) == (0, 5, None)
    lines = [standing for standing in shown if standing.line]
    assert [(standing.step, standing.epoch, standing.epochs) for standing in lines] == [(2, 1, 2), (4, 2, 2), (5, 2, 2)]
    assert not [line for line in said if line.startswith("step ")]


def test_the_speed_that_is_shown_counts_a_short_batch_as_what_it_is(
    pairs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(watch.Watch, "step", lambda self, step, images: seen.append((step, images)))
    train(small.pix2pix(pairs, "memory://watch/short", steps=4, watch=QUIET))
    assert seen == [(1, 3), (2, 3), (3, 1), (4, 3)]


def test_metrics_that_cannot_be_written_between_checkpoints_are_said_and_written_with_the_next(
    pairs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_MIN_INTERVAL_S", -1.0)
    replace, failures = metrics.storage.replace, iter([True, True])

    def failing(url: str, data: bytes) -> None:
        if url.endswith("metrics.jsonl") and next(failures, False):
            raise OSError(28, "No space left on device")
        replace(url, data)

    monkeypatch.setattr(metrics.storage, "replace", failing)
    config = small.pix2pix(pairs, "memory://watch/full", steps=5, checkpoint_every=5, watch=QUIET)
    outcome, said, _ = train(config)
    assert (outcome.step, outcome.failure) == (5, "")
    assert len([line for line in said if "No space left on device); training goes on" in line]) == 2
    assert [line["step"] for line in metrics.read_metrics(config.output)] == [1, 2, 3, 4, 5]


def test_the_best_checkpoint_stays_however_old(pairs: str, held_out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.5, 0.1, 0.2, 0.3])
    monkeypatch.setattr(watch.Validator, "measure", lambda self, networks: {"l1": next(scores)})
    config = small.pix2pix(
        pairs,
        "memory://watch/best",
        steps=8,
        checkpoint_every=1,
        keep_checkpoints=2,
        watch=QUIET,
        validation=Validation(input=held_out, every=2),
    )
    train(config)
    assert checkpoint.steps(config.output) == [4, 7, 8]


def test_a_moving_average_is_what_is_validated_where_there_is_one(pairs: str, held_out: str) -> None:
    """The scores differ from those of the last weights, but the weights do not."""
    measured = []
    for name, ema in (("last", None), ("average", 0.9)):
        options: dict[str, Any] = {"ema": ema} if ema else {}
        config = small.pix2pix(
            pairs,
            f"memory://watch/{name}",
            steps=4,
            watch=QUIET,
            validation=Validation(input=held_out, every=4),
            **options,
        )
        train(config)
        measured.append(metrics.read_metrics(config.output)[-1]["validation"]["l1"])
    assert measured[0] != measured[1]
