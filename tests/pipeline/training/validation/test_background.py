"""Validation beside training, on stand-ins for the other process: whenever the scores come, and wherever the run is
killed, it ends as one that validates inline."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import storage
from pipeline.training import loop, run
from pipeline.training.checkpoints import checkpoint
from pipeline.training.config.monitor import WatchConfig
from pipeline.training.config.train import TrainConfig
from pipeline.training.config.validation import Validation
from pipeline.training.data import loader
from pipeline.training.distributed.group import Group
from pipeline.training.monitor import metrics, sinks
from pipeline.training.validation import background, validator
from pipeline.training.validation.background import BesideValidator, Pending, Scores, States, Submit, ValidatorLostError
from tests.pipeline.training import small
from tests.pipeline.training.monitor.test_sinks import points, read_back


@pytest.fixture(scope="module")
def pairs() -> str:
    return small.write_pairs("memory://beside/pairs", 7)


@pytest.fixture(scope="module")
def unpaired() -> str:
    return small.write_unpaired("memory://beside/unpaired", 7, 5)


@pytest.fixture(scope="module")
def held_out() -> str:
    return small.write_pairs("memory://beside/held_out", 3)


def recipe(store: str, held_out: str, run: str, **changes: Any) -> TrainConfig:
    """A validation after steps 3, 6, 9 and 11, a checkpoint after every second, of which one is kept."""
    cadence = {"steps": 11, "checkpoint_every": 2, "keep_checkpoints": 1}
    validation = Validation(**{"input": held_out, "every": 3, "images": 2, **changes.pop("validation", {})})
    watch = WatchConfig(sample_every=0)
    return small.pix2pix(store, run, **{"validation": validation, "watch": watch, **cadence, **changes})


class Elsewhere:
    """A stand-in for the other process. It is done when it is asked about so many log steps later, or waited for; some
    of what it is given may be lost."""

    def __init__(self, config: TrainConfig, *, after: float = math.inf, lost: tuple[int, ...] = ()) -> None:
        self._validator, self._after, self._lost = BesideValidator(config, "cpu", 1), after, lost
        self.measured = 0

    def __call__(self, states: States) -> Pending:
        self.measured += 1
        return _Later(self._after, self.measured in self._lost, lambda: self._validator.measure(states))


class _Later:
    def __init__(self, after: float, lost: bool, measure: Callable[[], Scores]) -> None:
        self._left, self._lost, self._measure = after, lost, measure

    def done(self) -> bool:
        self._left -= 1
        return self._left < 0

    def result(self) -> Scores:
        if self._lost:
            raise ValidatorLostError("its node is gone")
        return self._measure()


def train(config: TrainConfig, beside: Submit | None = None, **wishes: Callable[[], bool]) -> tuple[int, list[str]]:
    """Train here; how far it came, and what was said."""
    said: list[str] = []
    task = loop.Task(config=config, sources=loader.find_sources(config), threads=1)
    outcome = loop.train(task, Group(), torch.device("cpu"), said.append, beside=beside, **wishes)
    assert not outcome.failure
    return outcome.step, said


class Killed(BaseException):
    pass


def killed_after(steps: int) -> Callable[[], bool]:
    """Ends the run as SIGKILL would, as far as its folder can tell: nothing is written any more."""
    asked = small.after(steps)

    def ask() -> bool:
        if asked():
            raise Killed
        return False

    return ask


def history_of(run: str) -> list[Mapping[str, Any]]:
    record = checkpoint.read_record(run, checkpoint.steps(run)[-1])
    assert background.under_way(record.about) is None
    return record.about["validation"]


def assert_alike(found: str, expected: str, folder: Path) -> None:
    """Weights, history, kept checkpoints, lines of metrics and TensorBoard are those of the run `expected`."""
    small.assert_same_bits(small.final_state(found), small.final_state(expected))
    assert history_of(found) == history_of(expected)
    assert checkpoint.steps(found) == checkpoint.steps(expected)
    lines = [metrics.read_metrics(each) for each in (found, expected)]
    kept = [[(line["step"], line["losses"], line.get("validation")) for line in each] for each in lines]
    assert kept[0] == kept[1]
    folder.mkdir()
    events = read_back(found, folder, "validation")
    metric = "l1" if "l1" in history_of(found)[0] else "cycle_l1"
    assert points(events, f"validation/{metric}") == [
        (entry["step"], pytest.approx(entry[metric])) for entry in history_of(expected)
    ]
    assert [step for step, _ in points(read_back(found, folder), "learning_rate")] == list(range(1, 12))


@pytest.mark.parametrize("objective", ["pix2pix", "cyclegan"])
def test_whenever_the_scores_come_the_run_is_that_with_validation_inline(
    objective: str, pairs: str, unpaired: str, held_out: str, tmp_path: Path
) -> None:
    """With a moving average, which is what is measured."""

    def named(name: str) -> TrainConfig:
        run = f"memory://beside/{objective}/{name}"
        if objective == "pix2pix":
            return recipe(pairs, held_out, run, ema=0.9)
        config = recipe(unpaired, unpaired, run)
        return small.cyclegan(
            unpaired, run, steps=11, checkpoint_every=2, keep_checkpoints=1, ema=0.9, validation=config.validation,
            watch=config.watch,
        )  # fmt: skip

    inline, slow, soon, quick = (named(name) for name in ("inline", "slow", "soon", "quick"))
    train(inline)
    assert [entry["step"] for entry in history_of(inline.output)] == [3, 6, 9, 11]
    for config, after in ((slow, math.inf), (soon, 1), (quick, 0)):
        elsewhere = Elsewhere(config, after=after)
        _, said = train(config, elsewhere)
        assert elsewhere.measured == 4
        late = [line.split(":")[0] for line in said if line.startswith("validation at step")]
        assert late == ([] if after == 0 else ["validation at step 3", "validation at step 6", "validation at step 9"])
        assert_alike(config.output, inline.output, tmp_path / config.output.rsplit("/", 1)[-1])


@pytest.mark.parametrize("after", [math.inf, 1])
def test_a_run_killed_at_any_step_and_resumed_ends_as_one_that_was_not(
    after: float, pairs: str, held_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a moving average, and all metrics published as soon as they are there, as where steps are slow."""
    monkeypatch.setattr(validator, "features_are_there", lambda: False)  # KID takes most of the time
    for module in (metrics, sinks):
        monkeypatch.setattr(module, "_MOST_OFTEN_S", -1.0)
    through = recipe(pairs, held_out, f"memory://beside/kills/{after}/through", ema=0.9)
    train(through)
    for step in range(1, 12):
        config = recipe(pairs, held_out, f"memory://beside/kills/{after}/{step}", ema=0.9)
        with pytest.raises(Killed):
            train(config, Elsewhere(config, after=after), stop_asked=killed_after(step))
        assert train(config, Elsewhere(config, after=after))[0] == 11
        assert_alike(config.output, through.output, tmp_path / f"{step}")


def test_a_stop_waits_for_no_scores_and_the_next_start_begins_them_again(
    pairs: str, held_out: str, tmp_path: Path
) -> None:
    """Beside or inline: where it is resumed is not where it was stopped."""
    through = recipe(pairs, held_out, "memory://beside/stops/through")
    train(through)
    for resumed in ("beside", "inline"):
        config = recipe(pairs, held_out, f"memory://beside/stops/{resumed}")
        assert train(config, Elsewhere(config), stop_asked=small.after(5))[0] == 5
        record = checkpoint.read_record(config.output, 5)
        assert (record.about["validation"], background.under_way(record.about)) == ([], 3)
        elsewhere = Elsewhere(config)
        train(config, elsewhere if resumed == "beside" else None)
        assert elsewhere.measured == (4 if resumed == "beside" else 0)
        assert_alike(config.output, through.output, tmp_path / resumed)


@pytest.mark.parametrize("lost", [1, 2, 4])
def test_a_lost_validator_is_one_line_and_no_score_is(lost: int, pairs: str, held_out: str, tmp_path: Path) -> None:
    inline = recipe(pairs, held_out, f"memory://beside/lost/{lost}/inline", ema=0.9)
    config = recipe(pairs, held_out, f"memory://beside/lost/{lost}/beside", ema=0.9)
    train(inline)
    elsewhere = Elsewhere(config, lost=(lost,))
    _, said = train(config, elsewhere)
    lines = [line for line in said if "has failed" in line]
    assert lines == [
        "validation beside training has failed (its node is gone); from here on training waits while it is measured"
    ]
    # It is noticed when the next one is due, which is measured here, or at the end.
    assert elsewhere.measured == lost
    assert_alike(config.output, inline.output, tmp_path / "found")


def test_a_validator_that_takes_no_work_is_lost_too(pairs: str, held_out: str, tmp_path: Path) -> None:
    def full(states: States) -> Pending:
        raise ValidatorLostError("the object store is full")

    inline = recipe(pairs, held_out, "memory://beside/full/inline")
    config = recipe(pairs, held_out, "memory://beside/full/beside")
    train(inline)
    _, said = train(config, full)
    assert len([line for line in said if "(the object store is full)" in line]) == 1
    assert_alike(config.output, inline.output, tmp_path / "found")


@pytest.mark.parametrize(
    ("scores", "ends"),
    [
        ((0.5, 0.4, 0.45, 0.41, 0.1, 0.1), 8),
        ((0.5, 0.6, 0.4, 0.45, 0.3, 0.35, 0.36, 0.1), 14),
        ((0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.04, 0.03, 0.02, 0.01), 20),
    ],
)
def test_a_run_ends_early_at_the_step_at_which_it_does_inline(
    scores: tuple[float, ...], ends: int, pairs: str, held_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training waits for a score only where that may be the last: else the next steps would have been done."""
    waited: list[bool] = []
    take = background.Validations.take
    monkeypatch.setattr(
        background.Validations,
        "take",
        lambda self, *, wait: (waited.append(wait) if self.step is not None else None) or take(self, wait=wait),
    )
    for where in ("inline", "beside"):
        coming = iter(scores)
        monkeypatch.setattr(validator.Validator, "measure", lambda self, networks: {"l1": next(coming)})  # noqa: B023
        config = recipe(
            pairs,
            held_out,
            f"memory://beside/early/{ends}/{where}",
            steps=20,
            validation={"every": 2, "metric": "l1", "patience": 2},
        )
        step, said = train(config, Elsewhere(config) if where == "beside" else None)
        assert step == ends
        assert [line for line in said if "stopping early" in line] == ([] if ends == 20 else [said[-1]])
        assert [entry["l1"] for entry in history_of(config.output)] == list(scores[: ends // 2])
    assert False in waited


def test_where_the_weights_are_gone_the_validation_is_left_out_with_a_line(pairs: str, held_out: str) -> None:
    config = recipe(pairs, held_out, "memory://beside/gone")
    train(config, Elsewhere(config), stop_asked=small.after(5))
    storage.delete(f"{config.output}/checkpoints/000000003/record.json")
    _, said = train(config, Elsewhere(config))
    assert len([line for line in said if line.endswith("; the validation of step 3 is left out")]) == 1
    assert [entry["step"] for entry in history_of(config.output)] == [6, 9, 11]


def test_a_run_that_is_made_shorter_has_its_last_validation_all_the_same(pairs: str, held_out: str) -> None:
    """The checkpoint that is now the last has been written without its scores."""
    config = recipe(pairs, held_out, "memory://beside/shorter")
    train(config, Elsewhere(config), stop_asked=small.after(3))
    assert checkpoint.read_record(config.output, 3).about["validation"] == []
    shorter = recipe(pairs, held_out, config.output, steps=3)
    plan = run.Plan(config=shorter, sources=loader.find_sources(shorter), total_steps=3, start={})
    assert not run._is_trained(plan)
    train(shorter, Elsewhere(shorter))
    assert [entry["step"] for entry in history_of(config.output)] == [3]
    assert run._is_trained(plan)


def where_its_name_says(config: TrainConfig) -> Submit | None:
    return Elsewhere(config) if config.output.endswith("beside") else None


def test_two_workers_agree_on_when_to_end(tmp_path: Path) -> None:
    """At a learning rate at which nothing becomes better."""
    store = small.write_pairs(str(tmp_path / "pairs"), 6)
    options: dict[str, Any] = {"validation": {"metric": "ssim", "patience": 2}, "learning_rate": 1e-12}
    configs = [recipe(store, store, str(tmp_path / name), **options) for name in ("inline", "beside")]
    small.train_in_processes(2, configs, tmp_path, beside=where_its_name_says)
    inline, beside = (config.output for config in configs)
    assert history_of(beside) == history_of(inline)
    assert checkpoint.steps(beside) == checkpoint.steps(inline)
    assert checkpoint.steps(beside)[-1] == 9


_here: BesideValidator


def _open(config: TrainConfig) -> None:
    global _here
    _here = BesideValidator(config, "cpu", 1)


def _measure(states: States) -> tuple[int, Scores]:
    return os.getpid(), _here.measure(states)


def test_another_process_measures_what_this_one_does(tmp_path: Path) -> None:
    store = small.write_pairs(str(tmp_path / "store"), 5)
    inline, config = (recipe(store, store, str(tmp_path / name), ema=0.9) for name in ("inline", "beside"))
    train(inline)
    measured_by: list[int] = []
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=_open, initargs=(config,)) as pool:

        def submit(states: States) -> Pending:
            return _Received(pool.submit(_measure, states), measured_by)

        train(config, submit)
    assert len(measured_by) == 4
    assert os.getpid() not in measured_by
    assert_alike(config.output, inline.output, tmp_path / "found")


class _Received:
    def __init__(self, future: Future[tuple[int, Scores]], measured_by: list[int]) -> None:
        self._future, self._measured_by = future, measured_by

    def done(self) -> bool:
        return self._future.done()

    def result(self) -> Scores:
        process, scores = self._future.result()
        self._measured_by.append(process)
        return scores
