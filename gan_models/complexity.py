"""Cost and view of a network: parameters, arithmetic, receptive field, all without memory for its weights."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gan_models.build import build_network
from gan_models.config import DiscriminatorConfig, GeneratorConfig


@dataclass(frozen=True, kw_only=True)
class Complexity:
    """Cost and view of one network at one image size."""

    parameters: int
    """Number of trained values."""

    flop: int
    """Number of multiplications and additions in the convolutions for one image."""

    receptive_field: int
    """Side, in pixels, of the square of the input that an output value sees by convolutions (not by norms)."""


def complexity(config: GeneratorConfig | DiscriminatorConfig, size: int) -> Complexity:
    """Return the complexity of the network of `config` for one image of `size` × `size`."""
    with torch.device("meta"):
        network = build_network(config)
    return Complexity(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        flop=flop_of(config, size),
        receptive_field=receptive_field(network),
    )


def flop_of(config: GeneratorConfig | DiscriminatorConfig, size: int) -> int:
    """Count multiplications and additions in the convolutions for one `size` × `size` image, as torch counts them."""
    with torch.device("meta"):
        network = build_network(config).eval()
        image_NCHW = torch.empty(1, config.in_channels, size, size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image_NCHW)
    return counter.get_total_flops()


def receptive_field(network: nn.Module) -> int:
    """Return the side, in pixels, of the input square that one output value sees through the convolutions of `network`.

    These networks are chains of convolutions (a skip sees no more than the path around it). The result is the largest
    over all phases of an output relative to the strides: where transposed convolutions meet, neighbours see different
    squares.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    phases = 1
    for layer in layers:
        phases *= layer.stride[0] if isinstance(layer, nn.ConvTranspose2d) else 1
    return max(_seen(layers, phase) for phase in range(phases))


def _seen(layers: list[nn.Conv2d | nn.ConvTranspose2d], position: int) -> int:
    """Return how much of a line of input, in pixels, the output at `position` sees, going back from the last layer."""
    first = last = position
    for layer in reversed(layers):
        kernel, stride, padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
        if isinstance(layer, nn.ConvTranspose2d):  # input i reaches the outputs i·stride − padding + 0 … kernel − 1
            first = -(-(first + padding - kernel + 1) // stride)
            last = (last + padding) // stride
        else:  # output o sees the inputs o·stride − padding + 0 … kernel − 1; a reflection sees no further
            first = first * stride - padding
            last = last * stride - padding + kernel - 1
    return last - first + 1
