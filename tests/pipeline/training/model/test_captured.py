"""Captured steps: what they are given and what they do, with a graph that computes again in place of CUDA's."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from pipeline.training.config.train import TrainConfig
from pipeline.training.model import captured
from pipeline.training.model.captured import WARM_UP, CapturedStep
from pipeline.training.model.replica import Replica
from tests.pipeline.training import small

RECIPES = pytest.mark.parametrize("make", [small.pix2pix, small.cyclegan])


class Graphs:
    """Graphs of a device that records a step by computing it, and is set back to where it was."""

    def __init__(self, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
        self.replica, self.replays, self.captures = replica, 0, 0
        self.refuses = False
        self.step = CapturedStep(replica.objective, replica._compute, replica.config.global_batch)
        replica._captured = self.step
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        monkeypatch.setattr(torch.cuda, "graph", self.capture)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)

    @contextlib.contextmanager
    def capture(self, graph: object, **_: Any) -> Iterator[None]:
        before = copy.deepcopy(self.replica.state())
        yield
        self.captures += 1
        self.replica.load_state(before)
        for parameter in self.replica.objective.parameters(self.replica.objective.networks):
            parameter.grad = None
        if self.refuses:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    def replay(self) -> None:
        self.replays += 1
        given = self.step._input
        assert given
        self.step._losses |= self.replica._compute(given.real_a, given.real_b, given.replay)
        self.replica.objective.steps -= 1  # a graph knows nothing of it


def run(replica: Replica, batches: list[int]) -> list[dict[str, float]]:
    found = []
    for step, samples in enumerate(batches):
        random = torch.Generator().manual_seed(step)
        a, b = torch.rand(2, samples, 3, 32, 32, generator=random) * 2 - 1
        found.append({name: loss.item() for name, loss in replica.step(a, b, step=step, samples=samples).items()})
    return found


def replica(make: Callable[..., TrainConfig]) -> Replica:
    return Replica(small.context(make("in", "out", global_batch=2, pool_size=3), images=7), "fp32")


@RECIPES
def test_it_makes_the_steps_that_are_made_otherwise(
    make: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [2, 2, 2, 1, 2, 2, 2, 2, 1, 2, 2]
    plain, caught = replica(make), replica(make)
    expected = run(plain, batches)
    graphs = Graphs(caught, monkeypatch)
    assert run(caught, batches) == expected
    small.assert_same_bits(small.flat(caught.state()), small.flat(plain.state()))
    assert graphs.captures == 1
    # The pools, of three images, take two steps to fill, and the batches of one image are never captured.
    assert graphs.replays == batches.count(2) - 2 - WARM_UP


def test_what_cannot_be_captured_is_computed_all_the_same_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [2] * 9
    plain, caught = replica(small.cyclegan), replica(small.cyclegan)
    expected = run(plain, batches)
    graphs = Graphs(caught, monkeypatch)
    graphs.refuses = True
    with small.logged() as lines:
        assert run(caught, batches) == expected
    assert lines == [
        "steps are not captured as a CUDA graph, and so are slower: "
        "RuntimeError: CUDA error: operation not permitted when stream is capturing more"
    ]
    assert (graphs.captures, graphs.replays) == (1, 0)
    assert captured.WARM_UP == WARM_UP
