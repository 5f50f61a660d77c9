"""GAN losses against their definitions, and a gradient penalty that is known in closed form."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from gan_models.losses import GanLoss, discriminator_loss, generator_loss, gradient_penalty, l1_loss

LOGITS = torch.tensor([[-2.0, 0.5], [1.5, 3.0]])


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize(
    ("kind", "of_real", "of_fake", "of_generator"),
    [
        ("vanilla", lambda x: math.log1p(math.exp(-x)), lambda x: math.log1p(math.exp(x)), None),
        ("lsgan", lambda x: (x - 1) ** 2, lambda x: x**2, None),
        ("hinge", lambda x: max(0, 1 - x), lambda x: max(0, 1 + x), lambda x: -x),
        ("wgangp", lambda x: -x, lambda x: x, lambda x: -x),
    ],
)
def test_gan_loss_is_its_definition(kind: GanLoss, of_real, of_fake, of_generator) -> None:
    logits = LOGITS.flatten().tolist()

    assert discriminator_loss(kind, LOGITS, real=True).item() == pytest.approx(mean([of_real(x) for x in logits]))
    assert discriminator_loss(kind, LOGITS, real=False).item() == pytest.approx(mean([of_fake(x) for x in logits]))
    expected = mean([(of_generator or of_real)(x) for x in logits])
    assert generator_loss(kind, LOGITS).item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", get_args(GanLoss))
def test_losses_of_bf16_logits_are_computed_in_fp32(kind: GanLoss) -> None:
    logits = torch.randn(1, 1, 30, 30).bfloat16()

    for loss in (discriminator_loss(kind, logits, real=True), generator_loss(kind, logits)):
        assert loss.dtype == torch.float32
    assert torch.equal(generator_loss(kind, logits), generator_loss(kind, logits.float()))
    assert l1_loss(logits, logits.float() + 1).item() == pytest.approx(1)


def test_the_penalty_of_a_linear_critic_is_known() -> None:
    weight = torch.randn(3, 4, 4)
    real, fake = torch.randn(2, 5, 3, 4, 4)

    penalty = gradient_penalty(lambda x: (x * weight).sum((1, 2, 3)), real, fake)

    assert penalty.item() == pytest.approx((weight.norm().item() - 1) ** 2, rel=1e-5)


def test_the_penalty_is_of_the_mean_over_patches() -> None:
    """A critic that gives the same logit for each of 900 patches equals the critic that gives it once."""
    weight = torch.randn(3, 4, 4)
    real, fake = torch.randn(2, 1, 3, 4, 4)

    def patches(x: Tensor) -> Tensor:
        return (x * weight).sum((1, 2, 3)).view(-1, 1, 1, 1).expand(-1, 1, 30, 30)

    assert gradient_penalty(patches, real, fake).item() == pytest.approx((weight.norm().item() - 1) ** 2, rel=1e-5)


def test_the_penalty_is_taken_between_real_and_fake() -> None:
    seen: list[Tensor] = []
    real, fake = torch.zeros(64, 1, 2, 2), torch.ones(64, 1, 2, 2)

    gradient_penalty(lambda x: seen.append(x) or x.square(), real, fake)

    (between,) = seen
    assert (between.amin((1, 2, 3)) == between.amax((1, 2, 3))).all()  # one position per sample
    assert between.min() >= 0
    assert between.max() <= 1
    assert len(between.unique()) > 32


def test_the_penalty_trains_the_critic_and_nothing_else() -> None:
    critic = torch.nn.Conv2d(3, 1, 3)
    fake = torch.randn(2, 3, 8, 8, requires_grad=True)

    gradient_penalty(critic, torch.randn(2, 3, 8, 8), fake).backward()

    assert critic.weight.grad.abs().sum() > 0
    assert fake.grad is None


def test_the_penalty_of_a_flat_critic_has_a_finite_gradient() -> None:
    critic = torch.nn.Conv2d(1, 1, 1)
    torch.nn.init.zeros_(critic.weight)

    penalty = gradient_penalty(critic, torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
    penalty.backward()

    assert penalty.item() == pytest.approx(1, abs=1e-4)
    assert critic.weight.grad.isfinite().all()
