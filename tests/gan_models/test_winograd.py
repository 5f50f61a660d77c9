"""Winograd's filtering gives what the direct convolution gives, within a stated error, at any size and batch."""

import pytest
import torch
from torch import Tensor, nn

from gan_models import GeneratorConfig, build_generator, translation_mode, with_winograd_trunk
from gan_models.pixels import to_uint8
from gan_models.winograd import WinogradConv2d

RESNET = GeneratorConfig(kind="resnet", depth=2, width=8, norm="instance")


def relative_error(actual: Tensor, exact: Tensor) -> float:
    """Root mean square of the difference over that of the exact values."""
    return ((actual - exact).square().mean().sqrt() / exact.square().mean().sqrt()).item()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (16, 24), (5, 7), (1, 2), (130, 131)])
@pytest.mark.parametrize("batch", [1, 3])
def test_it_is_the_same_function_in_float64(batch: int, height: int, width: int, bias: bool) -> None:
    conv = nn.Conv2d(3, 5, 3, bias=bias).double()
    x = torch.randn(batch, 3, height + 2, width + 2, dtype=torch.float64)

    with torch.no_grad():
        torch.testing.assert_close(WinogradConv2d(conv)(x), conv(x), rtol=1e-12, atol=1e-12)


def test_its_error_in_fp32_is_a_few_times_that_of_the_direct_convolution() -> None:
    conv = nn.Conv2d(256, 64, 3)
    nn.init.normal_(conv.weight, 0, 0.02)
    x = torch.randn(1, 256, 34, 34).relu()
    with torch.no_grad():
        exact = torch.nn.functional.conv2d(x.double(), conv.weight.double(), conv.bias.double())
        direct, winograd = relative_error(conv(x), exact), relative_error(WinogradConv2d(conv)(x), exact)

    assert direct < winograd < 8 * direct
    assert winograd < 2e-6


def test_a_translation_by_it_differs_in_few_values_and_by_one() -> None:
    generator = build_generator(GeneratorConfig(kind="resnet", depth=9, width=16, norm="instance"))
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.mul_(5)  # so that a whole range of values comes out
        image = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8) * 2 - 1, size=128, mode="bicubic")
        translator = translation_mode(generator)
        winograd = to_uint8(with_winograd_trunk(translator)(image))
        exact = to_uint8(translation_mode(generator.double())(image.double()))

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

    assert sum(isinstance(module, WinogradConv2d) for module in translator.modules()) == 2 * RESNET.depth
    assert not any(isinstance(module, WinogradConv2d) for module in generator.modules())
    assert translator.model[1].weight is generator.model[1].weight


def test_a_unet_has_no_trunk_and_stays() -> None:
    unet = build_generator(GeneratorConfig(depth=3, width=4))

    assert list(with_winograd_trunk(unet).state_dict()) == list(unet.state_dict())


@pytest.mark.parametrize("settings", [{"stride": 2}, {"padding": 1}, {"kernel_size": 5}, {"groups": 2}])
def test_another_convolution_is_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="no 3×3 convolution of stride 1 without padding"):
        WinogradConv2d(nn.Conv2d(4, 4, **({"kernel_size": 3} | settings)))
