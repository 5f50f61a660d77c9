"""Gradients are right in every layout, at every batch, eager and compiled: torch's own instance norm fails here."""

import copy
import itertools
from collections.abc import Mapping
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from gan_models import GeneratorConfig, build_generator
from gan_models.config import Norm
from gan_models.norms import instance_norm, norm_layer

NORMS = get_args(Norm)
LAYOUTS = [torch.contiguous_format, torch.channels_last]
PUBLISHED = ((1,), "instance", "resnet", torch.channels_last)
"""The batch, norm and network of CycleGAN's recipe, in the memory format of a GPU."""


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


@pytest.mark.parametrize(("x_format", "gradient_format"), list(itertools.product(LAYOUTS, LAYOUTS)))
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_the_instance_norm_that_a_gpu_compiles_agrees_with_float64(
    x_format: torch.memory_format, gradient_format: torch.memory_format, batch: int
) -> None:
    class Layer(nn.Module):
        def forward(self, x_NCHW: Tensor) -> Tensor:
            return instance_norm(x_NCHW, torch.full((8,), 1.5), torch.full((8,), 0.5), 1e-5)

    x = torch.randn(batch, 8, 12, 10) * 3 + 2
    gradient = torch.randn_like(x)
    y, of_x = value_and_gradient(Layer(), x.to(memory_format=x_format), gradient.to(memory_format=gradient_format))
    value, expected = value_and_gradient(by_definition("instance"), x.double(), 1.5 * gradient.double())
    torch.testing.assert_close(y.double(), 1.5 * value + 0.5, rtol=1e-5, atol=4e-6)
    torch.testing.assert_close(of_x.double(), expected, rtol=1e-5, atol=4e-6)
    assert y.is_contiguous(memory_format=x_format)


def test_an_instance_norm_is_fp32_inside_autocast_as_those_of_torch_are() -> None:
    x = torch.randn(1, 2, 4, 4).bfloat16()
    assert instance_norm(x, None, None, 1e-5).dtype == torch.bfloat16
    device = torch.get_default_device().type
    with torch.autocast(device, torch.bfloat16):
        assert instance_norm(x, None, None, 1e-5).dtype == torch.float32
        if device == "cuda":  # on a CPU torch's own is of its input's type
            assert norm_layer(GeneratorConfig(norm="instance"), 2)(x).dtype == torch.float32


@pytest.mark.parametrize(
    ("layout", "batch"),
    [
        # Several images in channels_last are the hardest case: the memory of one image's channels is in pieces.
        each if each == (torch.channels_last, 2) else pytest.param(*each, marks=pytest.mark.long)
        for each in itertools.product(LAYOUTS, (1, 2, 3))
    ],
)
def test_compiled_norm_gradient_agrees_with_float64(layout: torch.memory_format, batch: int) -> None:
    layers = {norm: norm_layer(GeneratorConfig(norm=norm, width=8, groups=2), 8) for norm in NORMS}
    x = torch.randn(batch, 8, 12, 10) * 3 + 2
    gradient = torch.randn_like(x)

    @torch.compile  # all share one graph, which compiles faster than one by one
    def compiled(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {norm: layers[norm](value) for norm, value in values.items()}

    inputs = {norm: x.to(memory_format=layout).detach().requires_grad_() for norm in NORMS}
    outputs = compiled(inputs)
    torch.autograd.backward(list(outputs.values()), [gradient.to(memory_format=layout)] * len(NORMS))

    for norm in NORMS:
        value, of_x = value_and_gradient(by_definition(norm), x.double(), gradient.double())
        torch.testing.assert_close(outputs[norm].double(), value, rtol=1e-5, atol=4e-6)
        torch.testing.assert_close(inputs[norm].grad.double(), of_x, rtol=1e-5, atol=4e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["unet", "resnet"])
@pytest.mark.parametrize("norm", NORMS)
def test_network_gradient_agrees_with_float64(kind: str, norm: str, layout: torch.memory_format) -> None:
    compare_gradients(small_network(kind, norm), (1, 2, 3), layout)


@pytest.mark.long  # it compiles for half a minute; the layers alone, compiled together above, are not long
@pytest.mark.parametrize(
    ("batches", "norm", "kind", "layout"),
    list(itertools.product([(1,), (2, 3)], NORMS, ["unet", "resnet"], LAYOUTS)),
)
def test_compiled_network_gradient_agrees_with_float64(
    kind: str, norm: str, batches: tuple[int, ...], layout: torch.memory_format
) -> None:
    torch.compiler.reset()
    network = small_network(kind, norm)
    network.compile()
    compare_gradients(network, batches, layout)


def small_network(kind: str, norm: str) -> nn.Module:
    with torch.device("cpu"):  # where the random generator is
        network = build_generator(
            GeneratorConfig(kind=kind, norm=norm, depth=2 if kind == "unet" else 1, width=4, groups=2),
            generator=torch.Generator().manual_seed(1),
        )
    return network.to(torch.get_default_device())


def compare_gradients(network: nn.Module, batches: tuple[int, ...], layout: torch.memory_format) -> None:
    """Compare all gradients of `network` at each batch size with those of an eager copy in float64 and NCHW."""
    exact = copy.deepcopy(network).double()
    network.to(memory_format=layout)
    for batch in batches:
        x = torch.rand(batch, 3, 16, 16)
        gradient = torch.randn_like(x)
        expected = parameter_gradients(exact, x.double(), gradient.double())
        x = x.to(memory_format=layout)
        if len(batches) > 1:
            torch._dynamo.maybe_mark_dynamic(x, 0)  # one compilation serves all of them
        actual = parameter_gradients(network, x, gradient.to(memory_format=layout))

        cosine = torch.nn.functional.cosine_similarity(actual.double(), expected, dim=0)
        assert cosine.item() == pytest.approx(1, abs=1e-6)
        torch.testing.assert_close(actual.double(), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def by_definition(norm: str) -> nn.Module:
    """Return the normalisation as its article defines it, for width 8, two groups, and the initial scale and shift."""
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
