"""Winograd's filtering agrees with direct convolution, within a stated error, at any size and batch."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gan_models import (
    CycleGAN,
    CycleGANConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    build_generator,
    train_winograd_trunk,
    translation_mode,
    with_winograd_trunk,
)
from gan_models.pixels import to_pixels
from gan_models.winograd import FixedWinogradConv2d, WinogradConv2d

RESNET = GeneratorConfig(kind="resnet", depth=2, width=8, norm="instance")


def relative_error(actual: Tensor, exact: Tensor) -> float:
    """Return the root mean square of the difference over that of the exact values."""
    return ((actual - exact).square().mean().sqrt() / exact.square().mean().sqrt()).item()


def relative_distance(actual: Tensor, exact: Tensor) -> float:
    """Return the largest difference over the largest of the exact values."""
    return ((actual - exact).abs().max() / exact.abs().max()).item()


def value_and_gradients(layer: nn.Module, x: Tensor, gradient: Tensor) -> list[Tensor]:
    """Return the output, and the gradients of the input and of every parameter."""
    x = x.detach().requires_grad_()
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], gradient)]


SIZES = pytest.mark.parametrize(("height", "width"), [(4, 4), (16, 24), (5, 7), (1, 2), (130, 131)])
BATCHES = pytest.mark.parametrize("batch", [1, 3])
LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


@pytest.mark.parametrize("bias", [True, False])
@SIZES
@BATCHES
def test_it_is_the_same_function_in_float64(batch: int, height: int, width: int, bias: bool) -> None:
    conv = nn.Conv2d(3, 5, 3, bias=bias).double()
    x = torch.randn(batch, 3, height + 2, width + 2, dtype=torch.float64)

    with torch.no_grad():
        torch.testing.assert_close(FixedWinogradConv2d(conv)(x), conv(x), rtol=1e-12, atol=1e-12)


@LAYOUTS
@pytest.mark.parametrize("bias", [True, False])
@SIZES
@BATCHES
def test_its_gradients_are_those_of_the_direct_convolution_in_float64(
    batch: int, height: int, width: int, bias: bool, layout: torch.memory_format
) -> None:
    conv = nn.Conv2d(3, 5, 3, bias=bias).double()
    x = torch.randn(batch, 3, height + 2, width + 2, dtype=torch.float64)
    gradient = torch.randn(batch, 5, height, width, dtype=torch.float64)
    expected = value_and_gradients(conv, x, gradient)
    found = value_and_gradients(WinogradConv2d(conv), x.to(memory_format=layout), gradient.to(memory_format=layout))

    assert len(found) == 3 + bias
    for actual, exact in zip(found, expected, strict=True):
        assert relative_distance(actual, exact) < 1e-12


@LAYOUTS
@BATCHES
def test_its_gradients_in_fp32_are_within_1e_5(batch: int, layout: torch.memory_format) -> None:
    conv = nn.Conv2d(128, 64, 3)
    nn.init.normal_(conv.weight, 0, 0.02)
    x, gradient = torch.randn(batch, 128, 65, 34).relu(), torch.randn(batch, 64, 63, 32)
    found = value_and_gradients(WinogradConv2d(conv), x.to(memory_format=layout), gradient.to(memory_format=layout))
    expected = value_and_gradients(conv.double(), x.double(), gradient.double())

    for actual, exact in zip(found, expected, strict=True):
        assert relative_distance(actual, exact) < 1e-5


def test_second_derivatives_are_right_too() -> None:
    layer = WinogradConv2d(nn.Conv2d(2, 2, 3).double())
    x = torch.randn(1, 2, 7, 6, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradgradcheck(layer, x)


@pytest.mark.parametrize("learning", ["input", "weight"])
def test_only_what_learns_gets_a_gradient(learning: str) -> None:
    conv = nn.Conv2d(3, 5, 3).requires_grad_(learning == "weight")
    x = torch.randn(2, 3, 10, 10, requires_grad=learning == "input")
    gradients = []
    for layer in (conv, WinogradConv2d(conv)):
        conv.zero_grad()
        x.grad = None
        layer(x).square().sum().backward()
        assert (x.grad is None) is (learning == "weight")
        assert (conv.weight.grad is None) is (learning == "input")
        gradients.append(conv.weight.grad if learning == "weight" else x.grad)

    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)


@pytest.mark.long
def test_a_compiled_trunk_has_the_same_gradients() -> None:
    conv = nn.Conv2d(4, 4, 3)
    x, gradient = torch.randn(2, 4, 9, 14), torch.randn(2, 4, 7, 12)
    layer = WinogradConv2d(conv)
    expected = value_and_gradients(conv, x, gradient)
    layer.compile(fullgraph=True)

    for actual, exact in zip(value_and_gradients(layer, x, gradient), expected, strict=True):
        assert relative_distance(actual, exact) < 1e-5


@pytest.mark.parametrize("batch", [1, 2])
def test_training_steps_are_those_of_the_direct_convolution_in_float64(batch: int) -> None:
    config = CycleGANConfig(generator=RESNET, discriminator=DiscriminatorConfig(width=4, layers=2))
    direct, winograd = (CycleGAN(config, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    for name in winograd.generator_names:
        train_winograd_trunk(winograd.networks[name])
    for model in (direct, winograd):
        for network in model.networks.values():
            network.double()
    losses = [train(model, batch) for model in (direct, winograd)]

    assert losses[1] == pytest.approx(losses[0], rel=1e-9)
    for name, network in direct.networks.items():
        for key, tensor in network.state_dict().items():
            torch.testing.assert_close(winograd.networks[name].state_dict()[key], tensor, rtol=1e-7, atol=1e-9)


def train(model: CycleGAN, batch: int) -> dict[str, float]:
    """Train three steps by plain descent, which divides by no small numbers, and return the last losses."""
    optimizers = {
        "generators": torch.optim.SGD(model.parameters(model.generator_names), lr=1e-2),
        "discriminators": torch.optim.SGD(model.parameters(model.discriminator_names), lr=1e-2),
    }
    losses: dict[str, Tensor] = {}
    for seed in range(3):
        pair = torch.rand(2, batch, 3, 32, 40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        losses = model.step(*(pair * 2 - 1), optimizers=optimizers)
    return {name: loss.item() for name, loss in losses.items()}


def test_a_trunk_in_training_keeps_its_parameters_and_their_names() -> None:
    generator = build_generator(RESNET)
    before = dict(generator.named_parameters())
    train_winograd_trunk(generator)

    assert list(generator.named_parameters()) == list(before.items())
    assert list(generator.state_dict()) == list(build_generator(RESNET).state_dict())
    assert sum(isinstance(module, WinogradConv2d) for module in generator.modules()) == 2 * RESNET.depth
    translator = translation_mode(generator)
    with torch.no_grad():
        x = torch.randn(1, 3, 16, 16)
        first = translator(x)
        generator.model[10].conv_block[1].weight.mul_(2)
        assert not torch.equal(translator(x), first)


def test_its_error_in_fp32_is_a_few_times_that_of_the_direct_convolution() -> None:
    conv = nn.Conv2d(256, 64, 3)
    nn.init.normal_(conv.weight, 0, 0.02)
    x = torch.randn(1, 256, 34, 34).relu()
    with torch.no_grad():
        exact = torch.nn.functional.conv2d(x.double(), conv.weight.double(), conv.bias.double())
        direct, winograd = relative_error(conv(x), exact), relative_error(FixedWinogradConv2d(conv)(x), exact)
        trained = relative_error(WinogradConv2d(conv)(x), exact)

    assert direct < winograd < 8 * direct
    assert winograd < 2e-6
    assert trained < 2e-6


def test_a_translation_by_it_differs_in_few_values_and_by_one() -> None:
    generator = build_generator(GeneratorConfig(kind="resnet", depth=9, width=16, norm="instance"))
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.mul_(5)  # spreads the output over the whole range of values
        image = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8) * 2 - 1, size=128, mode="bicubic")
        translator = translation_mode(generator)
        winograd = to_pixels(with_winograd_trunk(translator)(image))
        exact = to_pixels(translation_mode(generator.double())(image.double()))

    assert exact.unique().numel() > 200
    difference = (winograd.int() - exact.int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 1e-3


def test_an_image_is_bit_equal_alone_and_among_fifteen_others() -> None:
    translator = with_winograd_trunk(translation_mode(build_generator(RESNET)))
    images = torch.randn(16, 3, 48, 40)
    alone = torch.zeros_like(images)
    alone[5] = images[5]

    with torch.inference_mode():
        assert torch.equal(translator(images)[5], translator(alone)[5])


def test_it_takes_the_trunk_alone_and_leaves_the_generator_as_it_is() -> None:
    generator = build_generator(RESNET)
    translator = with_winograd_trunk(generator)

    assert sum(isinstance(module, FixedWinogradConv2d) for module in translator.modules()) == 2 * RESNET.depth
    assert not any(isinstance(module, FixedWinogradConv2d) for module in generator.modules())
    assert translator.model[1].weight is generator.model[1].weight


def test_a_unet_has_no_trunk_and_stays() -> None:
    unet = build_generator(GeneratorConfig(depth=3, width=4))

    assert list(with_winograd_trunk(unet).state_dict()) == list(unet.state_dict())


@pytest.mark.parametrize("form", [WinogradConv2d, FixedWinogradConv2d])
@pytest.mark.parametrize("settings", [{"stride": 2}, {"padding": 1}, {"kernel_size": 5}, {"groups": 2}])
def test_another_convolution_is_refused(settings: dict[str, int], form: Callable[[nn.Conv2d], nn.Module]) -> None:
    with pytest.raises(ValueError, match="no 3×3 convolution of stride 1 without padding"):
        form(nn.Conv2d(4, 4, **({"kernel_size": 3} | settings)))
