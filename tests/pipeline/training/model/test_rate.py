"""Learning rate of each step, from the configuration."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.training.config.schedule import LearningRateSchedule
from pipeline.training.model.rate import EpochLosses, learning_rate, reconstruction_loss
from tests.pipeline.training.small import pix2pix

STEPS = 10


def rates(steps: list[int], *, history: list[float] | None = None, **changes: Any) -> list[float]:
    """Return the rates of `steps`, with ten steps in an epoch and a base rate of 1."""
    settings = {"epochs": 4, "decay_epochs": 4, "learning_rate": 1.0, "global_batch": 16, "steps": None}
    config = pix2pix("in", "out", **settings | {"schedule": LearningRateSchedule(**changes)})
    losses = EpochLosses(STEPS, torch.device("cpu"))
    losses.history = [((epoch + 1) * STEPS, loss) for epoch, loss in enumerate(history or [])]
    return [learning_rate(config, step, STEPS, losses) for step in steps]


def test_the_published_line_changes_with_the_epoch() -> None:
    assert rates([0, 39, 40, 49, 79]) == pytest.approx([1, 1, 0.8, 0.8, 0.2])


def test_or_with_each_step_from_the_same_values_on() -> None:
    assert rates([0, 30, 35, 40, 45, 79], by="steps") == pytest.approx([1, 1, 0.9, 0.8, 0.7, 0.02])
    assert rates([0, 40], kind="cosine", by="steps") == rates([0, 40], kind="cosine")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kind": "constant"}, [1, 1, 1]),
        ({"kind": "cosine"}, [1, 0.5, 0.0380602337]),
        ({"kind": "step", "step_epochs": 3, "gamma": 0.5}, [1, 0.5, 0.25]),
        ({"batch_rule": "sqrt"}, [4, 3.2, 0.8]),
        ({"batch_rule": "linear", "reference_batch": 8}, [2, 1.6, 0.4]),
        ({"warmup_steps": 20, "kind": "constant"}, [0.05, 1, 1]),
        ({"warmup_steps": 20, "batch_rule": "sqrt"}, [0.2, 3.2, 0.8]),
    ],
)
def test_each_schedule_reaches_the_rate(changes: dict[str, Any], expected: list[float]) -> None:
    assert rates([0, 40, 79], **changes) == pytest.approx(expected)


def test_a_plateau_falls_after_epochs_that_are_no_better_and_only_for_steps_after_them() -> None:
    plateau = {"kind": "plateau", "patience": 1, "plateau_factor": 0.5}
    history = [1.0, 0.5, 0.5, 0.5]
    assert rates([0, 29, 39, 40, 41], history=history, **plateau) == [1, 1, 1, 0.5, 0.5]


def test_the_mean_of_an_epoch_counts_samples_and_goes_on_where_it_stopped() -> None:
    whole, first = EpochLosses(3, torch.device("cpu")), EpochLosses(3, torch.device("cpu"))
    batches = [(4, 1.0), (4, 2.0), (1, 9.0), (4, 3.0)]
    for step, (samples, loss) in enumerate(batches):
        whole.add(step, samples, torch.tensor(loss))
    assert whole.history == [(3, 21 / 9)]
    for step, (samples, loss) in enumerate(batches[:2]):
        first.add(step, samples, torch.tensor(loss))
    resumed = EpochLosses(3, torch.device("cpu"))
    resumed.load_state_dict(first.state_dict())
    for step, (samples, loss) in enumerate(batches[2:], 2):
        resumed.add(step, samples, torch.tensor(loss))
    assert resumed.state_dict() == whole.state_dict()


def test_the_reconstruction_is_the_l1_or_both_cycles() -> None:
    losses = {name: torch.tensor(float(i)) for i, name in enumerate(["g_gan", "g_l1", "cycle_A", "cycle_B", "d_A"])}
    assert reconstruction_loss({name: losses[name] for name in ("g_gan", "g_l1")}) == 1
    assert reconstruction_loss({name: losses[name] for name in ("cycle_A", "cycle_B", "d_A")}) == 5
