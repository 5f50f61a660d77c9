"""Ends of a ResNet: the convolutions that they replace, in values, gradients and names of the weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from gan_models import GeneratorConfig, build_generator
from pipeline.models.ends import (
    ColumnsConv2d,
    RowsConv2d,
    columns_conv,
    few_inputs,
    few_outputs,
    rows_conv,
    with_fast_ends,
)

RESNET = GeneratorConfig(kind="resnet", width=8, depth=1, norm="instance")


def image(channels: int, height: int = 20, width: int = 15) -> torch.Tensor:
    random = torch.Generator().manual_seed(channels)
    return torch.randn(2, channels, height, width, generator=random, dtype=torch.float64).requires_grad_()


def with_gradients(layer: nn.Module, x_NCHW: torch.Tensor) -> list[torch.Tensor]:
    y_NCHW = layer(x_NCHW)
    weights = [x_NCHW, *layer.parameters()]
    return [y_NCHW.detach(), *torch.autograd.grad((y_NCHW * torch.arange(y_NCHW.shape[3])).sum(), weights)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", [(7, 7), (3, 3), (2, 5)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_they_are_the_convolutions_that_they_replace(channels: int, kernel: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(0)
    from_few = nn.Conv2d(channels, 6, kernel, bias=bias).double()
    for found, expected in zip(
        with_gradients(columns_conv(from_few), image(channels)), with_gradients(from_few, image(channels)), strict=True
    ):
        torch.testing.assert_close(found, expected)
    to_few = nn.Conv2d(6, channels, kernel, bias=bias).double()
    for aligned in (1, 8):
        found_all = with_gradients(rows_conv(to_few, aligned=aligned), image(6))
        for found, expected in zip(found_all, with_gradients(to_few, image(6)), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)  # the rows are summed in fp32


def test_rows_are_summed_in_more_than_bf16() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 3, 7)
    x_NCHW = torch.randn(1, 64, 40, 40)
    exact = conv(x_NCHW)
    found, plain = (
        ((layer.bfloat16()(x_NCHW.bfloat16()).float() - exact).norm() / exact.norm()).item()
        for layer in (rows_conv(copy.deepcopy(conv), aligned=8), copy.deepcopy(conv))
    )
    assert found < 1.25 * plain


def test_a_resnet_keeps_its_weights_and_their_names() -> None:
    network = build_generator(RESNET, generator=torch.Generator().manual_seed(0))
    x_NCHW = torch.rand(2, 3, 16, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected, names = network(x_NCHW), list(network.state_dict())
    weights = dict(network.named_parameters())
    found = with_fast_ends(network)
    assert found is network
    assert list(found.state_dict()) == names
    assert all(parameter is weights[name] for name, parameter in found.named_parameters())
    kinds = [type(layer) for layer in found.model]
    assert (kinds.count(ColumnsConv2d), kinds.count(RowsConv2d)) == (1, 1)
    torch.testing.assert_close(found(x_NCHW), expected, rtol=1e-4, atol=1e-5)


def test_the_first_one_stays_where_it_trains() -> None:
    kinds = [type(layer) for layer in with_fast_ends(build_generator(RESNET), trains=True).model]
    assert (kinds.count(ColumnsConv2d), kinds.count(RowsConv2d)) == (0, 1)


def test_others_stay_as_they_are() -> None:
    unet = build_generator(GeneratorConfig(depth=5, width=4))
    kinds = [type(module) for module in unet.modules()]
    assert [type(module) for module in with_fast_ends(unet).modules()] == kinds
    for layer in (nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(3, 3, 1), nn.ReLU()):
        assert not few_inputs(layer)
        assert not few_outputs(layer)


@pytest.mark.long
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_they_make_the_same(dtype: torch.dtype) -> None:
    network = build_generator(RESNET, generator=torch.Generator().manual_seed(0)).to(dtype)
    x_NCHW = (torch.rand(2, 3, 16, 12) * 2 - 1).to(dtype).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = network(x_NCHW)
        fast = with_fast_ends(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = torch.compile(fast, dynamic=False)(x_NCHW)
    rounding = 1e-5 if dtype == torch.float32 else 0.02
    assert ((found - expected).float().norm() / expected.float().norm()).item() < rounding
