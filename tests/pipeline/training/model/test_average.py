"""Moving average of weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.training.model import average


def network(value: float) -> dict[str, nn.Module]:
    made = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    for tensor in made.state_dict().values():
        tensor.fill_(value)
    return {"g": made}


def test_it_is_the_weighted_sum_of_all_weights_so_far() -> None:
    found = average.begin(network(8.0))
    expected = 8.0
    for step, value in enumerate([4.0, 2.0, 6.0] * 30, 1):
        average.update(found, network(value), decay=0.8, steps=step)
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert found["g"]["0.weight"].item() == pytest.approx(expected, rel=1e-6)
    assert found["g"]["1.running_mean"].item() == pytest.approx(expected, rel=1e-6)
    assert found["g"]["1.num_batches_tracked"].item() == 6


def test_untrained_weights_are_soon_forgotten() -> None:
    found = average.begin(network(1.0))
    for step in range(1, 51):
        average.update(found, network(0.0), decay=0.9999, steps=step)
    assert found["g"]["0.weight"].item() < 1e-6


def test_it_is_a_copy() -> None:
    networks = network(1.0)
    found = average.begin(networks)
    with torch.no_grad():
        networks["g"][0].weight.zero_()  # type: ignore[index]
    assert found["g"]["0.weight"].item() == 1
