"""Generators over pictures of any size: their outer layers in tiles, which are strips of rows, their inner ones whole.

A tile with its neighbours' rows beside it gives what the whole picture gives, but for the norms, which take mean and
variance of the whole picture. So a norm at the picture's own size costs one more pass over the strips, which sums them
up; what comes to a norm at half of its height and width is kept, which takes no more memory than the inner layers do.
These have a sixteenth of the pixels: a ResNet's residual blocks, and a U-Net's levels from the third on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import Tensor, nn

from gan_models.norms import affine
from gan_models.resnet import ResNetGenerator
from gan_models.unet import UNetBlock, UNetGenerator


class Rows(NamedTuple):
    """Values of one image, [1, C, height, W], that are computed a few rows at a time."""

    height: int
    read: Callable[[int, int], Tensor]
    """Function from two numbers of rows to the rows from the one to before the other, [1, C, stop - start, W]."""


def can_tile(network: nn.Module) -> bool:
    """Return True for the networks that `tiled` takes."""
    return isinstance(network, ResNetGenerator | UNetGenerator)


def strips(height: int, count: int) -> Iterator[tuple[int, int]]:
    """Yield the first row of each of `count` strips of nearly equal height, and the row behind its last one."""
    edges = [height * i // count for i in range(count + 1)]
    yield from ((start, stop) for start, stop in itertools.pairwise(edges) if start < stop)


def tiled(network: nn.Module, picture: Rows, count: int, progress: Callable[[], object] = lambda: None) -> Rows:
    """Return the translation of a picture in [-1, 1], made in `count` strips; `progress` is called after each of them.

    `network` is a generator in `translation_mode`; the picture's height and width are such that it takes them whole.
    The result, read in strips, is that of the network but for rounding. All layers run once, but for the first and the
    last but one of a ResNet's convolutions and the first of a U-Net's, which run twice. Raises TypeError for another
    network, or for a layer that none of these has.
    """

    def after(rows: Rows, layers: Sequence[nn.Module]) -> Rows:
        return tiled_layers(layers, rows, count, progress, whole=picture.height)

    def inside(rows: Rows, layers: Sequence[nn.Module]) -> Rows:
        values_NCHW = _collected(rows, count, progress)
        del rows  # and what it was made of
        for layer in layers:  # one by one, since a container would hold its input to its end
            values_NCHW = layer(values_NCHW)
            progress()
        return _whole(values_NCHW)

    if isinstance(network, ResNetGenerator):
        layers = list(network.model)
        first = 1 + max(i for i, layer in enumerate(layers) if _halves(layer))
        last = min(i for i, layer in enumerate(layers) if isinstance(layer, nn.ConvTranspose2d))
        return after(inside(after(picture, layers[:first]), layers[first:last]), layers[last:])
    if isinstance(network, UNetGenerator):
        down, deeper, *outer = network.model.model
        if not isinstance(deeper, UNetBlock):
            raise TypeError(f"{type(deeper).__name__} is no level of a U-Net")
        skip, inner = after(picture, [down]), list(deeper.model)
        last = next(i for i, layer in enumerate(inner) if isinstance(layer, nn.ConvTranspose2d))
        below = after(inside(after(skip, inner[:2]), inner[2 : last - 1]), inner[last - 1 :])
        both = Rows(skip.height, lambda start, stop: torch.cat([skip.read(start, stop), below.read(start, stop)], 1))
        return after(both, outer)
    raise TypeError(f"{type(network).__name__} cannot be tiled")


def tiled_layers(
    layers: Sequence[nn.Module],
    rows: Rows,
    count: int,
    progress: Callable[[], object] = lambda: None,
    *,
    whole: int | None = None,
) -> Rows:
    """Return what `layers` make of rows, one after the other, in `count` strips.

    What comes to a norm is kept where its height is below `whole`, by default that of the rows; else it is computed
    once more. Raises TypeError for a layer that no generator and no discriminator has.
    """
    whole = rows.height if whole is None else whole
    for layer in layers:
        if isinstance(layer, nn.GroupNorm) and rows.height < whole:
            rows = _whole(_collected(rows, count, progress))
        rows = _after(rows, layer, count, progress)
    return rows


def _halves(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)


def _whole(values_NCHW: Tensor) -> Rows:
    return Rows(values_NCHW.shape[2], lambda start, stop: values_NCHW[:, :, start:stop])


def _collected(rows: Rows, count: int, progress: Callable[[], object]) -> Tensor:
    """Return all rows, read in strips."""
    whole: Tensor | None = None
    for start, stop in strips(rows.height, count):
        part = rows.read(start, stop)
        if whole is None:
            whole = part.new_empty((*part.shape[:2], rows.height, part.shape[3]))
        whole[:, :, start:stop] = part
        progress()
    if whole is None:
        raise ValueError("a picture without rows")
    return whole


def _after(rows: Rows, layer: nn.Module, count: int, progress: Callable[[], object]) -> Rows:
    """Return what `layer` makes of rows. No layer works in place here, since rows may be those of a whole."""
    match layer:
        case nn.ReflectionPad2d():
            return _mirrored(rows, layer)
        case nn.Conv2d():
            return _convolved(rows, layer)
        case nn.ConvTranspose2d():
            return _transposed(rows, layer)
        case nn.GroupNorm():
            scale, shift = (each[:, None, None] for each in affine(layer, *_moments(rows, count, progress)))
            return _mapped(rows, lambda x: torch.addcmul(shift, x.float(), scale).to(x.dtype))
        case nn.ReLU():
            return _mapped(rows, torch.relu)
        case nn.LeakyReLU():
            return _mapped(rows, lambda x: F.leaky_relu(x, layer.negative_slope))
        case nn.Tanh() | nn.BatchNorm2d() | nn.Identity() | nn.Dropout() if not layer.training:
            return _mapped(rows, layer)
    raise TypeError(f"{layer} cannot be tiled")


def _mapped(rows: Rows, function: Callable[[Tensor], Tensor]) -> Rows:
    return Rows(rows.height, lambda start, stop: function(rows.read(start, stop)))


def _mirrored(rows: Rows, pad: nn.ReflectionPad2d) -> Rows:
    left, right, top, bottom = pad.padding
    last = rows.height - 1

    def read(start: int, stop: int) -> Tensor:
        at = [last - abs(last - abs(row - top)) for row in range(start, stop)]
        first = min(at)
        x_NCHW = rows.read(first, max(at) + 1)
        if len(at) != x_NCHW.shape[2] or at[0] != first:
            x_NCHW = x_NCHW[:, :, torch.tensor([row - first for row in at], device=x_NCHW.device)]
        return F.pad(x_NCHW, (left, right, 0, 0), mode="reflect")

    return Rows(rows.height + top + bottom, read)


def _convolved(rows: Rows, conv: nn.Conv2d) -> Rows:
    kernel, stride, (above, aside) = conv.kernel_size[0], conv.stride[0], _padding(conv)

    def read(start: int, stop: int) -> Tensor:
        first, last = start * stride - above, (stop - 1) * stride - above + kernel
        x_NCHW = rows.read(max(first, 0), min(last, rows.height))
        if not above:
            return conv(x_NCHW)  # some kinds compute in another way
        x_NCHW = F.pad(x_NCHW, (0, 0, max(-first, 0), max(last - rows.height, 0)))
        return F.conv2d(x_NCHW, conv.weight, conv.bias, conv.stride, (0, aside))

    return Rows((rows.height + 2 * above - kernel) // stride + 1, read)


def _transposed(rows: Rows, conv: nn.ConvTranspose2d) -> Rows:
    kernel, stride, (above, aside) = conv.kernel_size[0], conv.stride[0], _padding(conv)
    below, more = conv.output_padding
    if below > above:
        raise TypeError(f"{conv} cannot be tiled")  # its last rows come from none of its inputs

    def read(start: int, stop: int) -> Tensor:
        first = max(0, -((kernel - 1 - start - above) // stride))
        x_NCHW = rows.read(first, min(rows.height, (stop - 1 + above) // stride + 1))
        y_NCHW = F.conv_transpose2d(x_NCHW, conv.weight, conv.bias, conv.stride, (0, aside), (0, more))
        origin = first * stride - above
        return y_NCHW[:, :, start - origin : stop - origin]

    return Rows((rows.height - 1) * stride - 2 * above + kernel + below, read)


def _padding(conv: nn.Conv2d | nn.ConvTranspose2d) -> tuple[int, int]:
    """Return the padding above and aside. Raises TypeError where it is not of zeros, or the kernel is not plain."""
    padding = conv.padding
    if isinstance(padding, str) or conv.dilation != (1, 1) or conv.groups != 1 or conv.padding_mode != "zeros":
        raise TypeError(f"{conv} cannot be tiled")
    return padding[0], padding[1]


def _moments(rows: Rows, count: int, progress: Callable[[], object]) -> tuple[Tensor, Tensor]:
    """Return mean and mean square of each channel over the whole picture, [C] each, in float64."""
    total = square = torch.zeros((), dtype=torch.float64)
    for start, stop in strips(rows.height, count):
        # Each strip's own variance is exact in fp32, where the mean of squares would not be.
        variance, mean = torch.var_mean(rows.read(start, stop).float(), (0, 2, 3), correction=0)
        mean, share = mean.double(), (stop - start) / rows.height
        total, square = total + share * mean, square + share * (variance.double() + mean * mean)
        progress()
    return total, square
