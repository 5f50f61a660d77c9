"""Networks: parameter counts, shapes, names, initial weights, and gradients that are right in every layout."""

import itertools
import math
from typing import get_args

import pytest
import torch
from torch import nn

from gan_models import DiscriminatorConfig, GeneratorConfig, build_discriminator, build_generator
from gan_models.config import Norm

NORMS = get_args(Norm)


def count(network: nn.Module) -> int:
    return sum(math.prod(parameter.shape) for parameter in network.parameters())


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (GeneratorConfig(kind="resnet", depth=9, norm="instance"), 11_378_179),
        (GeneratorConfig(kind="resnet", depth=6, norm="instance"), 7_837_699),
        (GeneratorConfig(depth=8), 54_413_955),
        (GeneratorConfig(depth=7), 41_828_995),
        (DiscriminatorConfig(), 2_764_737),
        (DiscriminatorConfig(in_channels=6, norm="batch"), 2_768_705),
        (DiscriminatorConfig(kind="pixel", in_channels=6), 8_897),
        (DiscriminatorConfig(kind="pixel", in_channels=6, norm="batch"), 9_024),
    ],
)
def test_parameter_count_at_full_width(config: GeneratorConfig | DiscriminatorConfig, parameters: int) -> None:
    with torch.device("meta"):
        network = build_generator(config) if isinstance(config, GeneratorConfig) else build_discriminator(config)

    assert count(network) == parameters


def test_affine_instance_norm_adds_two_tensors_a_norm() -> None:
    with torch.device("meta"):
        network = build_generator(GeneratorConfig(kind="resnet", depth=9, norm="instance", affine=True))

    assert len(network.state_dict()) == 94


def test_unet_drops_only_in_its_wide_middle_blocks() -> None:
    with torch.device("meta"):
        network = build_generator(GeneratorConfig(depth=8, width=4, dropout=True))

    assert sum(isinstance(module, nn.Dropout) for module in network.modules()) == 3


def test_resnet_with_dropout_names_its_second_convolution_6() -> None:
    with torch.device("meta"):
        network = build_generator(GeneratorConfig(kind="resnet", depth=1, dropout=True))

    assert "model.10.conv_block.6.weight" in network.state_dict()


# Dropout stands behind whichever norm there is: one of them shows that both sides fit.
@pytest.mark.parametrize(
    ("norm", "dropout"),
    [
        *((norm, False) for norm in NORMS),
        *((norm, True) if norm == "batch" else pytest.param(norm, True, marks=pytest.mark.long) for norm in NORMS),
    ],
)
@pytest.mark.parametrize("kind", ["unet", "resnet"])
def test_every_generator_keeps_the_size_and_learns(kind: str, norm: str, dropout: bool) -> None:
    shallow, *deeper = [2, 5, 8] if kind == "unet" else [1, 6, 9]
    built = [(shallow, channels) for channels in ((1, 3), (3, 1), (4, 7))]  # only the ends know the channels
    built += [(depth, (3, 3)) for depth in (shallow, *deeper)]
    for (depth, (source, target)), batch in itertools.product(built, (1, 2)):
        config = GeneratorConfig(
            kind=kind,
            norm=norm,
            depth=depth,
            width=2,
            groups=2,
            dropout=dropout,
            in_channels=source,
            out_channels=target,
        )
        least = max(config.size_multiple, 8)  # reflection takes 3 pixels, and a norm more than one value
        network = build_generator(config)
        for height, width in ((least, least), (least, 2 * least), (3 * least, least)):
            if norm == "batch" and batch == height * width // least**2 == 1:
                continue  # a batch norm cannot train on one value per channel, as in a U-Net's innermost image
            output = network(torch.rand(batch, source, height, width) * 2 - 1)
            network.zero_grad()
            output.square().sum().backward()

            assert output.shape == (batch, target, height, width)
            assert output.abs().max() <= 1
            assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(("kind", "depth", "size"), [("unet", 7, 128), ("unet", 9, 512), ("resnet", 9, 260)])
def test_generators_of_the_articles_sizes(kind: str, depth: int, size: int) -> None:
    network = build_generator(GeneratorConfig(kind=kind, depth=depth, width=2, norm="instance"))

    with torch.no_grad():
        assert network(torch.zeros(1, 3, size, size)).shape == (1, 3, size, size)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("layers", "field", "side"), [(1, 16, 30), (3, 70, 6), (4, 142, 2)])
def test_patch_discriminator_depth(layers: int, field: int, side: int, norm: str) -> None:
    config = DiscriminatorConfig(layers=layers, width=4, groups=2, norm=norm)

    assert config.receptive_field == field
    assert build_discriminator(config)(torch.zeros(1, 3, 64, 64)).shape == (1, 1, side, side)


def test_receptive_field_is_where_the_gradient_reaches() -> None:
    network = build_discriminator(DiscriminatorConfig(layers=2, width=2, norm="none"))
    image = torch.rand(1, 3, 96, 96, requires_grad=True)
    logits = network(image)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()

    rows = image.grad.abs().sum((0, 1, 3)).nonzero()
    assert int(rows.max() - rows.min() + 1) == DiscriminatorConfig(layers=2).receptive_field == 34


def test_pixel_discriminator_judges_each_pixel_alone() -> None:
    network = build_discriminator(DiscriminatorConfig(kind="pixel", width=4, norm="none"))
    image = torch.rand(1, 3, 8, 8)
    changed = image.clone()
    changed[..., 3, 5] += 1

    assert (network(image) != network(changed)).nonzero().tolist() == [[0, 0, 3, 5]]


def test_initial_weights_follow_the_recipe_and_the_given_rng() -> None:
    config = GeneratorConfig(depth=5, width=16)
    network = build_generator(config, generator=torch.Generator().manual_seed(7))
    again = build_generator(config, generator=torch.Generator().manual_seed(7))

    convolutions = torch.cat([m.weight.flatten() for m in network.modules() if isinstance(m, nn.Conv2d)])
    scales = torch.cat([m.weight for m in network.modules() if isinstance(m, nn.BatchNorm2d)])
    assert convolutions.std().item() == pytest.approx(0.02, rel=0.02)
    assert scales.mean().item() == pytest.approx(1, abs=0.01)
    assert scales.std().item() == pytest.approx(0.02, rel=0.3)
    assert all(not parameter.any() for name, parameter in network.named_parameters() if name.endswith("bias"))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": 1}, "depth is 1: it must be at least 2"),
        ({"kind": "vit"}, "kind is 'vit': it must be one of unet, resnet"),
        ({"norm": "spectral"}, "norm is 'spectral'"),
        ({"norm": "group", "width": 48}, "set generator.groups to a divisor of 48"),
        ({"norm": "batch", "affine": True}, "instance norm only"),
        ({"in_channels": 0}, "in_channels is 0"),
    ],
)
def test_an_impossible_generator_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneratorConfig(**wrong)


@pytest.mark.parametrize("wrong", [{"layers": 0}, {"kind": "stylegan"}, {"norm": "group", "width": 8}])
def test_an_impossible_discriminator_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="discriminator"):
        DiscriminatorConfig(**wrong)
