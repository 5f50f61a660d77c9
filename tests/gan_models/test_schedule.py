"""Tables of the learning rate: the published one, and those of torch's own schedulers."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, ReduceLROnPlateau, StepLR

from gan_models import learning_rate_factor
from gan_models.schedule import (
    batch_factor,
    cosine_factor,
    linear_factor,
    plateau_factor,
    step_factor,
    warmup_factor,
)


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(1, 2.0e-4), (100, 2.0e-4), (101, 1.980198e-4), (150, 1.00990099e-4), (200, 1.980198e-6), (201, 0), (300, 0)],
)
def test_constant_then_linear_to_zero(epoch: int, rate: float) -> None:
    factor = learning_rate_factor(epoch, constant_epochs=100, decay_epochs=100)

    assert 2e-4 * factor == pytest.approx(rate, rel=1e-6)


def test_without_decay_it_is_constant_to_the_last_epoch() -> None:
    assert [learning_rate_factor(epoch, constant_epochs=3, decay_epochs=0) for epoch in (1, 2, 3)] == [1, 1, 1]


def test_epochs_count_from_one() -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        learning_rate_factor(0, constant_epochs=1, decay_epochs=1)


def of_torch(make: Callable[[SGD], Any], steps: int, *metrics: float) -> list[float]:
    """Return the rate in each of `steps` steps of a scheduler that begins with 1."""
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler: LRScheduler = make(optimizer)
    found = []
    for step in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(*metrics[step : step + 1])
    return found


def test_between_the_epochs_the_line_goes_on_and_ends_at_zero() -> None:
    whole = [linear_factor(epoch, constant_epochs=3, decay_epochs=2) for epoch in range(5)]
    assert whole == [learning_rate_factor(epoch + 1, constant_epochs=3, decay_epochs=2) for epoch in range(5)]
    assert linear_factor(2.0, constant_epochs=3, decay_epochs=2) == 1
    assert linear_factor(3.5, constant_epochs=3, decay_epochs=2) == pytest.approx((whole[3] + whole[4]) / 2)
    assert linear_factor(5.0, constant_epochs=3, decay_epochs=2) == 0


def test_steps_are_those_of_torch() -> None:
    found = [step_factor(epoch, step_epochs=50, gamma=0.1) for epoch in range(200)]
    assert found == pytest.approx(of_torch(lambda o: StepLR(o, 50, 0.1), 200), rel=1e-12)


def test_the_cosine_is_that_of_torch() -> None:
    found = [cosine_factor(epoch, epochs=200) for epoch in range(201)]
    assert found == pytest.approx(of_torch(lambda o: CosineAnnealingLR(o, T_max=200), 201), rel=1e-9, abs=1e-12)
    assert cosine_factor(200, epochs=200) == 0


METRICS = {
    "better all the time": [0.9**i for i in range(40)],
    "never better": [1.0] * 40,
    "better by too little": [1 - i * 1e-4 for i in range(40)],
    "up and down": [1 + 0.5 * math.sin(i) - 0.01 * i for i in range(40)],
    "no numbers among them": [1.0, math.nan, 0.5, *[math.nan] * 20, 0.4, 0.3],
}


@pytest.mark.parametrize("metrics", METRICS.values(), ids=METRICS.keys())
@pytest.mark.parametrize(("factor", "patience", "threshold"), [(0.2, 5, 0.01), (0.5, 0, 0.0), (0.9, 2, 0.1)])
def test_a_plateau_is_that_of_torch(metrics: list[float], factor: float, patience: int, threshold: float) -> None:
    expected = of_torch(
        lambda o: ReduceLROnPlateau(o, factor=factor, patience=patience, threshold=threshold, eps=0.0),
        len(metrics),
        *metrics,
    )
    settings = {"factor": factor, "patience": patience, "threshold": threshold}
    found = [plateau_factor(metrics[:seen], **settings) for seen in range(len(metrics))]
    assert found == pytest.approx(expected, rel=1e-12)


def test_warm_up_rises_from_above_zero_to_one() -> None:
    assert [warmup_factor(step, warmup_steps=4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert warmup_factor(0, warmup_steps=0) == 1


@pytest.mark.parametrize(("rule", "factor"), [("none", 1), ("linear", 8), ("sqrt", math.sqrt(8))])
def test_the_rate_follows_the_batch(rule: Any, factor: float) -> None:
    assert batch_factor(rule, 16, reference=2) == factor
    assert batch_factor(rule, 2, reference=2) == 1
