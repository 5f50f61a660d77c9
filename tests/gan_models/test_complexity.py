"""Parameters, arithmetic and receptive field, against the published numbers and against the gradient's reach."""

import pytest
import torch

from gan_models import DiscriminatorConfig, GeneratorConfig
from gan_models.__main__ import NETWORKS, table
from gan_models.build import build_network
from gan_models.complexity import complexity, flop_of, receptive_field


@pytest.mark.parametrize(
    ("config", "parameters", "gmac"),
    [
        (GeneratorConfig(kind="resnet", depth=9, norm="instance"), 11_378_179, 49.55),
        (GeneratorConfig(depth=8), 54_413_955, 6.05),
    ],
)
def test_parameters_and_arithmetic_of_the_generators(config: GeneratorConfig, parameters: int, gmac: float) -> None:
    cost = complexity(config, 256)

    assert cost.parameters == parameters
    assert cost.flop / 2e9 == pytest.approx(gmac, abs=0.005)


@pytest.mark.parametrize(
    "config",
    [
        GeneratorConfig(kind="resnet", depth=2, width=4, in_channels=1, out_channels=5),
        GeneratorConfig(depth=2, width=4, in_channels=5, out_channels=1),
        GeneratorConfig(depth=6, width=2),
    ],
)
def test_the_arithmetic_without_torch_is_what_torch_counts(config: GeneratorConfig) -> None:
    assert config.flop(64 * 64) == flop_of(config, 64)


@pytest.mark.parametrize(
    "config",
    [
        GeneratorConfig(kind="resnet", depth=1, width=2, norm="none"),
        GeneratorConfig(kind="resnet", depth=3, width=2, norm="none"),
        GeneratorConfig(depth=3, width=2, norm="none"),
        DiscriminatorConfig(layers=1, width=2, norm="none"),
        DiscriminatorConfig(layers=4, width=2, norm="none"),
        DiscriminatorConfig(kind="pixel", width=2, norm="none"),
    ],
)
def test_the_receptive_field_is_as_far_as_a_gradient_reaches(config: GeneratorConfig | DiscriminatorConfig) -> None:
    network = build_network(config).double()
    for parameter in network.parameters():
        torch.nn.init.uniform_(parameter, 0.1, 1)  # all positive, so that no ReLU cuts a path
    image = torch.rand(1, 3, 256, 256, dtype=torch.float64, requires_grad=True)
    logits = without_tanh(network)(image)

    reached = 0
    for phase in range(8):
        row = logits.shape[2] // 2 + phase if logits.shape[2] > 16 else logits.shape[2] // 2
        (gradient,) = torch.autograd.grad(logits[0, 0, row, logits.shape[3] // 2], image, retain_graph=True)
        rows = gradient.abs().sum((0, 1, 3)).nonzero()
        reached = max(reached, int(rows.max() - rows.min() + 1))

    assert receptive_field(network) == reached


def without_tanh(network: torch.nn.Module) -> torch.nn.Module:
    """Remove the last tanh, whose derivative would be 0 in floating point."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, torch.nn.Tanh):
                setattr(module, name, torch.nn.Identity())
    return network


def test_patchgans_have_the_receptive_field_that_their_configuration_says() -> None:
    for config in NETWORKS.values():
        if isinstance(config, DiscriminatorConfig):
            assert complexity(config, 256).receptive_field == config.receptive_field


def test_the_table_has_a_line_for_each_network() -> None:
    lines = table().splitlines()

    assert len(lines) == len(NETWORKS) + 1
    assert lines[1].split() == ["ResNet,", "9", "blocks", "instance", "3", "to", "3", "11,378,179", "99.10", "169²"]
