"""Training step of pix2pix and CycleGAN: what is computed, in which order, and through which networks."""

import contextlib
import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, Adam, Optimizer

from gan_models import (
    CycleGAN,
    CycleGANConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    Pix2Pix,
    Pix2PixConfig,
    cyclegan,
    pix2pix,
    pool_decisions,
)
from gan_models.losses import GanLoss
from gan_models.objective import Losses, plain_update

Objective = Pix2Pix | CycleGAN
SIDE = 32


def small_pix2pix(**changes: Any) -> Pix2Pix:
    config = Pix2PixConfig(
        generator=GeneratorConfig(depth=4, width=4, norm="instance"),
        discriminator=DiscriminatorConfig(in_channels=6, width=4, layers=2, norm="instance"),
    )
    return Pix2Pix(dataclasses.replace(config, **changes))


def small_cyclegan(**changes: Any) -> CycleGAN:
    config = CycleGANConfig(
        generator=GeneratorConfig(kind="resnet", depth=1, width=4, norm="instance"),
        discriminator=DiscriminatorConfig(width=4, layers=2),
        pool_size=2,
    )
    return CycleGAN(dataclasses.replace(config, **changes))


OBJECTIVES = pytest.mark.parametrize("build", [small_pix2pix, small_cyclegan])


def optimizers_of(objective: Objective) -> dict[str, Optimizer]:
    names = {"generators": objective.generator_names, "discriminators": objective.discriminator_names}
    return {key: Adam(objective.parameters(value), lr=2e-4, betas=(0.5, 0.999)) for key, value in names.items()}


def pair(batch: int = 1, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    real_a, real_b = torch.rand(2, batch, 3, SIDE, SIDE, dtype=dtype) * 2 - 1
    return real_a, real_b


def weights(objective: Objective) -> list[Tensor]:
    return [p.detach().clone() for network in objective.networks.values() for p in network.parameters()]


class Counted(nn.Module):
    """Network that counts the images and passes that go through it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.passes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.passes.append(len(x))
        return self.network(x)


def test_names() -> None:
    assert list(small_pix2pix().networks) == ["g", "d"]
    assert list(small_cyclegan().networks) == ["g_AB", "g_BA", "d_A", "d_B"]
    assert small_cyclegan().generator_names == ("g_AB", "g_BA")
    assert small_cyclegan().discriminator_names == ("d_A", "d_B")


def test_the_defaults_are_the_published_recipes() -> None:
    assert Pix2PixConfig().generator == GeneratorConfig(kind="unet", depth=8, norm="batch", dropout=True)
    assert Pix2PixConfig().discriminator == DiscriminatorConfig(in_channels=6, norm="batch")
    assert (Pix2PixConfig().gan_loss, Pix2PixConfig().lambda_l1, Pix2PixConfig().pool_size) == ("vanilla", 100, 0)
    config = CycleGANConfig()
    assert config.generator == GeneratorConfig(kind="resnet", depth=9, norm="instance", dropout=False)
    assert (config.gan_loss, config.lambda_a, config.lambda_b) == ("lsgan", 10, 10)
    assert (config.lambda_identity, config.pool_size) == (0.5, 50)


@OBJECTIVES
def test_initial_weights_are_those_of_the_given_random_generator(build: Callable[[], Objective]) -> None:
    config = build().config
    first, second = (type(build())(config, generator=torch.Generator().manual_seed(3)) for _ in range(2))

    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


@pytest.mark.parametrize(
    ("build", "order"),
    [(small_pix2pix, ["discriminators", "generators"]), (small_cyclegan, ["generators", "discriminators"])],
)
def test_order_of_updates_and_what_each_one_changes(build: Callable[[], Objective], order: list[str]) -> None:
    objective = build()
    optimizers = optimizers_of(objective)
    seen: list[str] = []

    def update(losses: Losses, optimizer: Optimizer) -> None:
        seen.append(next(name for name, other in optimizers.items() if other is optimizer))
        mine = objective.generator_names if seen[-1] == "generators" else objective.discriminator_names
        for network in objective.networks.values():
            network.zero_grad()
        for compute in losses:
            compute().backward()
        for name, network in objective.networks.items():
            touched = any(p.grad is not None and p.grad.any() for p in network.parameters())
            assert touched == (name in mine), name
        optimizer.step()

    objective.step(*pair(), optimizers=optimizers, update=update)

    assert seen == order
    assert all(p.requires_grad for network in objective.networks.values() for p in network.parameters())


def test_pix2pix_losses_are_their_definitions_and_g_meets_the_updated_d() -> None:
    objective = small_pix2pix(lambda_l1=7.0).networks
    real_a, real_b = pair()
    with torch.no_grad():
        fake_b = objective["g"](real_a)
        of_real = objective["d"](torch.cat([real_a, real_b], 1))
        of_fake = objective["d"](torch.cat([real_a, fake_b], 1))
    trained = small_pix2pix(lambda_l1=7.0)
    for name, network in objective.items():
        trained.networks[name].load_state_dict(network.state_dict())

    losses = trained.step(real_a, real_b, optimizers=optimizers_of(trained))

    with torch.no_grad():
        by_updated_d = trained.networks["d"](torch.cat([real_a, fake_b], 1))
    expected = {
        "d_real": F.softplus(-of_real).mean(),
        "d_fake": F.softplus(of_fake).mean(),
        "g_gan": F.softplus(-by_updated_d).mean(),
        "g_l1": 7 * (fake_b - real_b).abs().mean(),
    }
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_cyclegan_losses_are_their_definitions() -> None:
    objective = small_cyclegan(lambda_a=8.0, lambda_b=6.0, lambda_identity=0.25)
    g_ab, g_ba, d_a, d_b = objective.networks.values()
    real_a, real_b = pair()
    with torch.no_grad():
        fake_b, fake_a = g_ab(real_a), g_ba(real_b)
        expected = {
            "d_A": ((d_a(real_a) - 1).square().mean() + d_a(fake_a).square().mean()) / 2,
            "g_AB": (d_b(fake_b) - 1).square().mean(),
            "cycle_A": 8 * (g_ba(fake_b) - real_a).abs().mean(),
            "identity_A": 2 * (g_ba(real_a) - real_a).abs().mean(),
            "d_B": ((d_b(real_b) - 1).square().mean() + d_b(fake_b).square().mean()) / 2,
            "g_BA": (d_a(fake_a) - 1).square().mean(),
            "cycle_B": 6 * (g_ab(fake_a) - real_b).abs().mean(),
            "identity_B": 1.5 * (g_ab(real_b) - real_b).abs().mean(),
        }

    losses = objective.step(real_a, real_b, optimizers=optimizers_of(objective))

    assert list(losses) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-5, atol=1e-6, msg=name)
        assert losses[name].shape == ()
        assert not losses[name].requires_grad


@pytest.mark.parametrize(("build", "module"), [(small_pix2pix, pix2pix), (small_cyclegan, cyclegan)])
def test_a_shared_forward_changes_nothing(
    build: Callable[[], Objective], module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [pair(2, torch.float64) for _ in range(3)]
    runs = []
    for shared in (True, False):
        if not shared:
            monkeypatch.setattr(module, "keeps_samples_apart", lambda _: False)
        torch.manual_seed(1)
        objective = build()
        for network in objective.networks.values():
            network.double()
        optimizers = optimizers_of(objective)
        runs.append([objective.step(*batch, optimizers=optimizers) for batch in batches])

    for together, apart in zip(*runs, strict=True):
        for name in together:
            torch.testing.assert_close(together[name], apart[name], rtol=1e-9, atol=1e-12, msg=name)


@OBJECTIVES
@pytest.mark.parametrize(
    ("gan_loss", "accumulate"),
    [
        each if each in {("vanilla", 2), ("lsgan", 3), ("hinge", 9)} else pytest.param(*each, marks=pytest.mark.long)
        for each in product(("vanilla", "lsgan", "hinge"), (2, 3, 9))
    ],
)
def test_micro_batches_do_what_the_batch_does(
    build: Callable[..., Objective], accumulate: int, gan_loss: GanLoss
) -> None:
    """This includes uneven micro-batches and pools that swap."""
    batches = [pair(5, torch.float64) for _ in range(4)]
    runs, states, pools = [], [], []
    for count in (1, accumulate):
        torch.manual_seed(1)
        objective = build(gan_loss=gan_loss, pool_size=3)
        for network in objective.networks.values():
            network.double()
        optimizers = {
            name: SGD(objective.parameters(names), lr=1e-2)
            for name, names in (
                ("generators", objective.generator_names),
                ("discriminators", objective.discriminator_names),
            )
        }
        runs.append([objective.step(*batch, optimizers=optimizers, accumulate=count) for batch in batches])
        states.append(weights(objective))
        pools.append([pool.images for pool in objective.pools.values()])

    for whole, parts in zip(*runs, strict=True):
        assert list(whole) == list(parts)
        for name in whole:
            torch.testing.assert_close(parts[name], whole[name], rtol=1e-12, atol=1e-12, msg=name)
    torch.testing.assert_close(states[1], states[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(pools[1], pools[0], rtol=1e-12, atol=1e-12)


@OBJECTIVES
def test_micro_batches_go_through_the_networks_one_by_one(build: Callable[..., Objective]) -> None:
    objective = build(pool_size=3)
    counted = {name: Counted(network) for name, network in objective.networks.items()}
    objective.forward.update(counted)
    asked: list[int] = []

    def replay(domain: str, fakes: Tensor) -> Tensor:
        asked.append(len(fakes))
        return fakes

    objective.step(*pair(3), optimizers=optimizers_of(objective), accumulate=2, replay=replay)

    passes = {name: network.passes for name, network in counted.items()}
    if build is small_pix2pix:
        # Images pass once for the discriminator, and once more for the generator's own graph.
        assert (passes, asked) == ({"g": [2, 1, 2, 1], "d": [4, 2]}, [3])
    else:
        assert (passes["g_AB"], passes["d_B"], asked) == ([4, 2, 2, 1], [4, 2], [3, 3])


def test_sides_of_two_lengths_cannot_be_cut_alike() -> None:
    objective = small_cyclegan()
    real_a, real_b = pair(3)
    with pytest.raises(ValueError, match="3 images of A and 2 of B cannot be cut"):
        objective.step(real_a, real_b[:2], optimizers=optimizers_of(objective), accumulate=2)


def test_the_generators_step_goes_through_the_bare_discriminators() -> None:
    objective = small_cyclegan()
    counted = {name: Counted(network) for name, network in objective.networks.items()}
    objective.forward.update(counted)

    objective.step(*pair(), optimizers=optimizers_of(objective))

    passes = {name: network.passes for name, network in counted.items()}
    # A and the identity's B share a pass; then comes the cycle. Real and fake share a pass.
    assert passes == {"g_AB": [2, 1], "g_BA": [2, 1], "d_A": [2], "d_B": [2]}


def test_batch_norm_sees_each_batch_by_itself() -> None:
    discriminator = DiscriminatorConfig(in_channels=6, width=4, layers=2, norm="batch")
    objective = small_pix2pix(discriminator=discriminator)
    objective.forward["d"] = counted = Counted(objective.networks["d"])

    objective.step(*pair(2), optimizers=optimizers_of(objective))

    assert counted.passes == [2, 2]


def test_without_identity_its_passes_are_left_out() -> None:
    objective = small_cyclegan(lambda_identity=0.0)
    objective.forward["g_AB"] = counted = Counted(objective.networks["g_AB"])

    losses = objective.step(*pair(), optimizers=optimizers_of(objective))

    assert counted.passes == [1, 1]
    assert losses["identity_A"] == losses["identity_B"] == 0


def test_domains_may_differ_in_channels_and_size_without_identity() -> None:
    generator = GeneratorConfig(kind="resnet", depth=1, width=4, norm="instance", in_channels=1, out_channels=3)
    objective = small_cyclegan(generator=generator, lambda_identity=0.0)

    losses = objective.step(
        torch.zeros(1, 1, SIDE, SIDE), torch.zeros(1, 3, SIDE, 2 * SIDE), optimizers=optimizers_of(objective)
    )

    assert all(loss.isfinite() for loss in losses.values())


@OBJECTIVES
@pytest.mark.parametrize("gan_loss", get_args(GanLoss))
def test_every_gan_loss_trains_every_network(build: Callable[..., Objective], gan_loss: GanLoss) -> None:
    objective = build(gan_loss=gan_loss)
    before = weights(objective)

    losses = objective.step(*pair(2), optimizers=optimizers_of(objective))

    assert all(loss.isfinite() for loss in losses.values())
    assert all(not torch.equal(a, b) for a, b in zip(before, weights(objective), strict=True))


@OBJECTIVES
def test_the_gradient_penalty_is_applied(build: Callable[..., Objective]) -> None:
    """The penalty makes the critic's gradient grow; the same run without it ends elsewhere."""
    runs = {}
    for weight in (0.0, 10.0):
        torch.manual_seed(1)
        objective = build(gan_loss="wgangp", gradient_penalty=weight)
        before = weights(objective)
        objective.step(*pair(2), optimizers=optimizers_of(objective))
        moved = [a - b for a, b in zip(weights(objective), before, strict=True)]
        runs[weight] = torch.cat([change.flatten() for change in moved])

    assert not torch.allclose(runs[0.0], runs[10.0], atol=1e-5)


def test_pix2pix_reports_its_penalty_under_wgangp_only() -> None:
    objective = small_pix2pix(gan_loss="wgangp")
    losses = objective.step(*pair(), optimizers=optimizers_of(objective))

    assert list(losses) == ["d_real", "d_fake", "d_penalty", "g_gan", "g_l1"]


def test_replay_is_asked_for_b_then_a_and_its_answer_is_judged() -> None:
    objective = small_cyclegan()
    asked: list[str] = []

    def replay(domain: str, fakes: Tensor) -> Tensor:
        assert fakes.shape == (1, 3, SIDE, SIDE)
        assert not fakes.requires_grad
        asked.append(domain)
        return torch.zeros_like(fakes)

    with torch.no_grad():
        of_zeros = objective.networks["d_B"](torch.zeros(1, 3, SIDE, SIDE)).square().mean()
    real_a, real_b = pair()
    with torch.no_grad():
        of_real = (objective.networks["d_B"](real_b) - 1).square().mean()
    losses = objective.step(real_a, real_b, optimizers=optimizers_of(objective), replay=replay)

    assert asked == ["B", "A"]
    torch.testing.assert_close(losses["d_B"], (of_real + of_zeros) / 2)
    assert len(objective.pools["B"]) == 0


def test_without_a_pool_replay_is_not_asked() -> None:
    def replay(domain: str, fakes: Tensor) -> Tensor:
        raise AssertionError(domain)

    objective = small_pix2pix()
    objective.step(*pair(), optimizers=optimizers_of(objective), replay=replay)


def test_own_pools_follow_pool_decisions() -> None:
    objective = small_cyclegan()
    objective.pool_seed = 5
    fakes = [torch.full((1, 3, 2, 2), float(step)) for step in range(12)]
    twin = small_cyclegan().pools["A"]

    for step, fake in enumerate(fakes):
        objective.steps = step
        expected = twin.query(fake, pool_decisions(5, step, "A", 1, 2))
        assert torch.equal(objective.query_pool("A", fake), expected)


@OBJECTIVES
def test_a_resumed_run_is_bit_identical(build: Callable[..., Objective]) -> None:
    batches = [pair() for _ in range(6)]
    whole = build(pool_size=1)
    optimizers = optimizers_of(whole)
    for batch in batches[:3]:
        whole.step(*batch, optimizers=optimizers)
    resumed = build(pool_size=1)
    resumed.load_state_dict(whole.state_dict())
    for name, network in whole.networks.items():
        resumed.networks[name].load_state_dict(network.state_dict())
    resumed_optimizers = optimizers_of(resumed)
    for name, optimizer in optimizers.items():
        resumed_optimizers[name].load_state_dict(copy.deepcopy(optimizer.state_dict()))

    for batch in batches[3:]:
        whole.step(*batch, optimizers=optimizers)
        resumed.step(*batch, optimizers=resumed_optimizers)

    assert resumed.steps == whole.steps == 6
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))


@OBJECTIVES
def test_autocast_is_around_forwards_and_not_around_updates(build: Callable[[], Objective]) -> None:
    objective = build()
    entered = 0

    @contextlib.contextmanager
    def autocast() -> Iterator[None]:
        nonlocal entered
        entered += 1
        with torch.autocast("cpu", dtype=torch.bfloat16):
            yield

    def update(losses: Losses, optimizer: Optimizer) -> None:
        def checked(compute: Callable[[], Tensor]) -> Tensor:
            loss = compute()
            assert not torch.is_autocast_enabled("cpu")
            assert loss.dtype == torch.float32
            return loss

        plain_update([functools.partial(checked, compute) for compute in losses], optimizer)

    losses = objective.step(*pair(), optimizers=optimizers_of(objective), update=update, autocast=autocast)

    # pix2pix makes its fake before both updates, CycleGAN makes its own in the first.
    assert entered == (3 if build is small_pix2pix else 2)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())


@OBJECTIVES
@pytest.mark.parametrize("gan_loss", ["lsgan", "wgangp"])
def test_networks_wrapped_for_data_parallel_training_learn_the_same(
    build: Callable[..., Objective], gan_loss: GanLoss, tmp_path: Path
) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        batches = [pair(2) for _ in range(2)]
        runs = []
        for wrapped in (False, True):
            torch.manual_seed(1)
            objective = build(gan_loss=gan_loss)
            for name, network in objective.networks.items() if wrapped else ():
                objective.forward[name] = DistributedDataParallel(
                    network, find_unused_parameters=True, broadcast_buffers=False
                )
            optimizers = optimizers_of(objective)
            for batch in batches:
                objective.step(*batch, optimizers=optimizers)
            runs.append(weights(objective))
    finally:
        torch.distributed.destroy_process_group()

    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize(
    ("build", "changes", "message"),
    [
        (small_pix2pix, {"gan_loss": "wgan"}, "gan_loss is 'wgan': it must be one of"),
        (small_pix2pix, {"lambda_l1": -1.0}, "lambda_l1 is -1.0"),
        (small_pix2pix, {"discriminator": DiscriminatorConfig()}, "set it to 6"),
        (small_cyclegan, {"lambda_a": float("nan")}, "lambda_a is nan"),
        (small_cyclegan, {"discriminator": DiscriminatorConfig(in_channels=6)}, "set it to 3"),
        (small_cyclegan, {"generator": GeneratorConfig(in_channels=1)}, "set lambda_identity to 0"),
        (
            small_cyclegan,
            {"gan_loss": "wgangp", "discriminator": DiscriminatorConfig(norm="batch")},
            "set discriminator.norm to instance or layer",
        ),
    ],
)
def test_an_impossible_objective_is_refused(
    build: Callable[..., Objective], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(**changes)


@OBJECTIVES
@pytest.mark.parametrize(
    ("shape_a", "shape_b", "message"),
    [
        ((1, 1, 32, 32), (1, 3, 32, 32), r"real_a has shape \[1, 1, 32, 32\]"),
        ((1, 3, 32, 32), (3, 32, 32), r"real_b has shape \[3, 32, 32\]"),
        ((1, 3, 32, 30), (1, 3, 32, 30), "real_a is 30×32 pixels: this generator needs multiples of"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(
    build: Callable[[], Objective], shape_a: tuple[int, ...], shape_b: tuple[int, ...], message: str
) -> None:
    objective = build()

    with pytest.raises(ValueError, match=message):
        objective.step(torch.zeros(shape_a), torch.zeros(shape_b), optimizers=optimizers_of(objective))


def test_pix2pix_refuses_a_pair_of_two_sizes() -> None:
    objective = small_pix2pix()

    with pytest.raises(ValueError, match="pairs have one size"):
        objective.step(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 64, 64), optimizers=optimizers_of(objective))
