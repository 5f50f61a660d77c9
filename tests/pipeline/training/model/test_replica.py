"""Arithmetic of one rank in fp16: a CPU can compute its scaled losses, too, though no run may ask for fp16 there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from pipeline.training.config.train import TrainConfig
from pipeline.training.model.replica import Replica
from tests.pipeline.training import small

RECIPES = pytest.mark.parametrize("make", [small.pix2pix, small.cyclegan])


def replica(config: TrainConfig, precision: str = "fp16") -> Replica:
    return Replica(small.context(config, images=7), precision)


def train(trained: Replica, first: int, last: int) -> dict[str, float]:
    """Train steps `first` to `last` (exclusive), each on a different pair; return the losses of the last one."""
    losses: dict[str, torch.Tensor] = {}
    for step in range(first, last):
        pair = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(step)) * 2 - 1
        losses = trained.step(*pair, step=step, samples=2)
    return {name: loss.item() for name, loss in losses.items()}


@RECIPES
def test_scaled_losses_learn_what_unscaled_ones_do(make: Callable[..., TrainConfig]) -> None:
    config = make("in", "out", global_batch=2, generator=small.cyclegan("", "").generator, learning_rate=1e-3)
    found, expected = (train(replica(config, precision), 0, 6) for precision in ("fp16", "fp32"))
    assert found == pytest.approx(expected, rel=0.15)


@RECIPES
def test_the_scale_is_resumed_to_the_bit(make: Callable[..., TrainConfig]) -> None:
    """Some of the first steps overflow and are skipped, and the scale falls."""
    config = make("in", "out", global_batch=2, ema=0.9, accumulate=2)
    through, resumed = replica(config), replica(config)
    train(through, 0, 2)
    state = copy.deepcopy(through.state())
    assert state["scalers"]["generators"]["scale"] < 65536
    resumed.load_state(state)
    train(through, 2, 5)
    train(resumed, 2, 5)
    small.assert_same_bits(small.flat(resumed.state()), small.flat(through.state()))


def test_an_overflow_leaves_the_weights_as_they_are() -> None:
    trained = replica(small.cyclegan("in", "out", global_batch=2))
    for scaler in trained._scalers.values():
        scaler.load_state_dict(scaler.state_dict() | {"scale": 2.0**100})
    before = {name: tensor.clone() for name, tensor in small.flat(trained.state()["networks"]).items()}
    train(trained, 0, 1)
    small.assert_same_bits(small.flat(trained.state()["networks"]), before)
    assert trained.is_finite()


@RECIPES
def test_micro_batches_are_reduced_once_for_each_optimisers_step(
    make: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    reduced: list[str] = []

    def hook(network, bucket):  # type: ignore[no-untyped-def]  # DDP refuses annotations that are strings
        reduced.append(network)
        done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    try:
        trained = replica(make("in", "out", global_batch=2, accumulate=2), "fp32")
        for name, network in trained.objective.networks.items():
            wrapped = DistributedDataParallel(network, find_unused_parameters=True, forward_sync_buffers=False)
            wrapped.register_comm_hook(name, hook)
            trained.objective.forward[name] = wrapped
        train(trained, 0, 2)
    finally:
        torch.distributed.destroy_process_group()
    assert sorted(reduced) == sorted(2 * list(trained.objective.networks))


def test_fp32_has_no_scale() -> None:
    assert "scalers" not in replica(small.pix2pix("in", "out"), "fp32").state()


def test_a_run_that_asks_for_fp16_on_a_cpu_ends_before_its_first_step() -> None:
    pairs = small.write_pairs("memory://replica/pairs", 2)
    outcome = small.train_here(small.pix2pix(pairs, "memory://replica/run", precision="fp16"))
    assert "precision fp16 is not in the hardware of this cpu" in outcome.failure
