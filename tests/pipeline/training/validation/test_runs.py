"""Validated runs: killed at any step and resumed, they measure, decide and end like an uninterrupted run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.training.checkpoints import checkpoint
from pipeline.training.config.monitor import WatchConfig
from pipeline.training.config.train import TrainConfig
from pipeline.training.config.validation import Validation
from pipeline.training.monitor import metrics, sinks
from pipeline.training.validation import validator
from tests.pipeline.training import small
from tests.pipeline.training.monitor.test_sinks import points, read_back


@pytest.fixture(scope="module")
def pairs() -> str:
    return small.write_pairs("memory://validated/pairs", 7)


@pytest.fixture(scope="module")
def held_out() -> str:
    return small.write_pairs("memory://validated/held_out", 3)


def recipe(store: str, held_out: str, run: str, **changes: Any) -> TrainConfig:
    """Return a run that validates after steps 3, 6, 9 and 11, and keeps one of its checkpoints of every second step."""
    cadence = {"steps": 11, "checkpoint_every": 2, "keep_checkpoints": 1}
    validation = Validation(**{"input": held_out, "every": 3, "images": 2, **changes.pop("validation", {})})
    watch = WatchConfig(sample_every=0)
    return small.pix2pix(store, run, **{"validation": validation, "watch": watch, **cadence, **changes})


class Killed(BaseException):
    pass


def killed_after(steps: int) -> Callable[[], bool]:
    """Return a callable that ends the run like SIGKILL, as far as its folder shows: nothing more is written."""
    asked = small.after(steps)

    def ask() -> bool:
        if asked():
            raise Killed
        return False

    return ask


def history_of(run: str) -> list[Mapping[str, Any]]:
    return checkpoint.read_record(run, checkpoint.steps(run)[-1]).about["validation"]


def assert_alike(found: str, expected: str, folder: Path) -> None:
    """Check that weights, history, kept checkpoints, lines of metrics and TensorBoard equal the run `expected`."""
    small.assert_same_bits(small.final_state(found), small.final_state(expected))
    assert history_of(found) == history_of(expected)
    assert checkpoint.steps(found) == checkpoint.steps(expected)
    lines = [metrics.read_metrics(each) for each in (found, expected)]
    kept = [[(line["step"], line["losses"], line.get("validation")) for line in each] for each in lines]
    assert kept[0] == kept[1]
    folder.mkdir()
    assert points(read_back(found, folder, "validation"), "validation/l1") == [
        (entry["step"], pytest.approx(entry["l1"])) for entry in history_of(expected)
    ]
    assert [step for step, _ in points(read_back(found, folder), "learning_rate")] == list(range(1, 12))


# The default ones: after a validation, after one beside a checkpoint, and after neither.
@pytest.mark.parametrize("kills", [(3, 6, 7), pytest.param(range(1, 12), marks=pytest.mark.long)])
def test_a_run_killed_at_any_step_and_resumed_ends_as_one_that_was_not(
    kills: Sequence[int], pairs: str, held_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has a moving average. All metrics are published at once, as they are where steps are slow."""
    monkeypatch.setattr(validator, "features_are_there", lambda: False)  # KID takes most of the time
    for module in (metrics, sinks):
        monkeypatch.setattr(module, "_MIN_INTERVAL_S", -1.0)
    through = recipe(pairs, held_out, f"memory://validated/through{len(kills)}", ema=0.9)
    small.train_here(through)
    assert [entry["step"] for entry in history_of(through.output)] == [3, 6, 9, 11]
    for step in kills:
        config = recipe(pairs, held_out, str(tmp_path / f"run{step}"), ema=0.9)
        with pytest.raises(Killed):
            small.train_here(config, stop_asked=killed_after(step))
        assert small.train_here(config).step == 11
        assert_alike(config.output, through.output, tmp_path / f"{step}")


@pytest.mark.parametrize(
    ("scores", "ends"),
    [
        ((0.5, 0.4, 0.45, 0.41, 0.1, 0.1), 8),
        ((0.5, 0.6, 0.4, 0.45, 0.3, 0.35, 0.36, 0.1), 14),
        ((0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.04, 0.03, 0.02, 0.01), 20),
    ],
)
def test_a_run_ends_after_so_many_validations_without_a_better_one(
    scores: tuple[float, ...], ends: int, pairs: str, held_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    coming = iter(scores)
    monkeypatch.setattr(validator.Validator, "measure", lambda self, networks: {"l1": next(coming)})
    early = {"every": 2, "metric": "l1", "patience": 2}
    config = recipe(pairs, held_out, f"memory://validated/early/{ends}", steps=20, validation=early)
    assert small.train_here(config).step == ends
    assert [entry["l1"] for entry in history_of(config.output)] == list(scores[: ends // 2])


@pytest.mark.long
def test_two_workers_agree_on_when_to_end(tmp_path: Path) -> None:
    """The learning rate is so low that nothing improves."""
    store = small.write_pairs(str(tmp_path / "pairs"), 6)
    early = {"metric": "ssim", "patience": 2}
    config = recipe(store, store, str(tmp_path / "run"), validation=early, learning_rate=1e-12)
    small.train_in_processes(2, [config], tmp_path)
    assert checkpoint.steps(config.output)[-1] == 9
    assert [entry["step"] for entry in history_of(config.output)] == [3, 6, 9]
