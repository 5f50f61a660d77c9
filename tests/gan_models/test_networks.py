"""Networks: parameter counts, shapes, names, initial weights, and gradients that are right in every layout."""

import itertools
import math
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from gan_models import DiscriminatorConfig, GeneratorConfig, build_discriminator, build_generator
from gan_models.config import Norm
from gan_models.norms import norm_layer

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


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", ["unet", "resnet"])
@pytest.mark.parametrize(("channels", "height", "width"), [((1, 3), 32, 64), ((4, 1), 64, 32)])
def test_generator_keeps_the_size_and_learns(
    kind: str, norm: str, channels: tuple[int, int], height: int, width: int
) -> None:
    config = GeneratorConfig(
        kind=kind, norm=norm, depth=4, width=4, groups=2, in_channels=channels[0], out_channels=channels[1]
    )
    assert (height % config.size_multiple, width % config.size_multiple) == (0, 0)
    network = build_generator(config)

    output = network(torch.rand(2, channels[0], height, width) * 2 - 1)
    output.square().sum().backward()

    assert output.shape == (2, channels[1], height, width)
    assert output.abs().max() <= 1
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


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


LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("x_format", "gradient_format"), list(itertools.product(LAYOUTS, LAYOUTS)))
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_norm_gradient_agrees_with_float64(
    norm: str, x_format: torch.memory_format, gradient_format: torch.memory_format, batch: int
) -> None:
    torch.manual_seed(batch)
    layer = norm_layer(GeneratorConfig(norm=norm, width=8, groups=2), 8)
    x = torch.randn(batch, 8, 12, 10) * 3 + 2
    gradient = torch.randn_like(x)

    actual = value_and_gradient(layer, x.to(memory_format=x_format), gradient.to(memory_format=gradient_format))
    expected = value_and_gradient(by_definition(norm), x.double(), gradient.double())

    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=2e-6)


@pytest.mark.long
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_compiled_norm_gradient_agrees_with_float64(norm: str, layout: torch.memory_format, batch: int) -> None:
    layer = norm_layer(GeneratorConfig(norm=norm, width=8, groups=2), 8)
    x = torch.randn(batch, 8, 12, 10) * 3 + 2
    gradient = torch.randn_like(x)

    compiled = torch.compile(layer)
    actual = value_and_gradient(compiled, x.to(memory_format=layout), gradient.to(memory_format=layout))
    expected = value_and_gradient(by_definition(norm), x.double(), gradient.double())

    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=4e-6)


@pytest.mark.parametrize("kind", ["unet", "resnet"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("batch", [1, 2])
def test_network_gradient_in_channels_last_agrees_with_float64(kind: str, norm: str, batch: int) -> None:
    torch.manual_seed(1)
    network = build_generator(GeneratorConfig(kind=kind, norm=norm, depth=3, width=4, groups=2))
    x = torch.rand(batch, 3, 32, 32)
    gradient = torch.randn_like(x)

    expected = parameter_gradients(network.double(), x.double(), gradient.double())
    network.float().to(memory_format=torch.channels_last)
    channels_last = [t.to(memory_format=torch.channels_last) for t in (x, gradient)]
    actual = parameter_gradients(network, *channels_last)

    cosine = torch.nn.functional.cosine_similarity(actual.double(), expected, dim=0)
    assert cosine.item() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(actual.double(), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def by_definition(norm: str) -> nn.Module:
    """The normalisation as its article writes it, for width 8 and two groups, at its initial scale and shift."""
    dimensions = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3)}

    def normalise(x: Tensor) -> Tensor:
        if norm == "none":
            return x
        if norm == "group":
            return torch.cat([standardised(half, (1, 2, 3)) for half in x.split(4, dim=1)], 1)
        return standardised(x, dimensions[norm])

    class Definition(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return normalise(x)

    return Definition()


def standardised(x: Tensor, dimensions: tuple[int, ...]) -> Tensor:
    mean = x.mean(dimensions, keepdim=True)
    variance = (x - mean).square().mean(dimensions, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt()


def value_and_gradient(layer: nn.Module, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    y = layer(x)
    y.backward(gradient)
    return y.detach(), x.grad


def parameter_gradients(network: nn.Module, x: Tensor, gradient: Tensor) -> Tensor:
    network.zero_grad()
    network(x).backward(gradient)
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
