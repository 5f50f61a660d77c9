"""Convolutions from few channels and to few channels, which leave most of a vector, or of a tensor core's tile, empty.

A ResNet generator begins and ends with one, 7 × 7 from 3 channels to 64 and from 64 to 3. They have 1.2 % of its
multiplications each, and on an H200 they took 12 % and 18 % of its time.
"""

from __future__ import annotations

from typing import TypeGuard, TypeVar

import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import Tensor, nn

from gan_models.resnet import ResNetGenerator

C = TypeVar("C", bound=nn.Conv2d)

_FEW = 4
_ALIGNED = 8
"""Multiple of channels that tensor cores take without a copy."""


class RowsConv2d(nn.Conv2d):
    """Convolution of stride 1 without padding: [N, in, H + k - 1, W + l - 1] to [N, out, H, W], for a k × l kernel.

    Each row of the kernel gives channels of its own, k times as many; the outputs are their sums, in fp32. For 64
    channels to 3 by 7 × 7 that takes a quarter of the time. It has the weights of an `nn.Conv2d`, by the same names.
    """

    aligned: int
    """Number of which the channels are made a multiple, with zeros."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        out, rows = self.out_channels, self.kernel_size[0]
        filters = self.weight.transpose(1, 2).flatten(0, 1).unsqueeze(2)
        filters = F.pad(filters, (0, 0, 0, 0, 0, 0, 0, -len(filters) % self.aligned))
        of_rows = F.conv2d(x_NCHW, filters)[:, : out * rows].unflatten(1, (out, rows))
        height = x_NCHW.shape[2] - rows + 1
        y_NCHW = of_rows[:, :, 0, :height].float()
        if self.bias is not None:
            y_NCHW = y_NCHW + self.bias[:, None, None]
        for row in range(1, rows):
            y_NCHW = y_NCHW + of_rows[:, :, row, row : row + height]
        return y_NCHW.to(of_rows.dtype)


class ColumnsConv2d(nn.Conv2d):
    """Convolution of stride 1 without padding: [N, in, H + k - 1, W + l - 1] to [N, out, H, W], for a k × l kernel.

    The pixels that lie below a row of the kernel become channels, l times as many, for a kernel of k × 1. It has the
    weights of an `nn.Conv2d`, by the same names.
    """

    def forward(self, x_NCHW: Tensor) -> Tensor:
        columns = self.kernel_size[1]
        # Further columns, with weights of 0, until the channels are aligned.
        unused = next(more for more in range(_ALIGNED) if self.in_channels * (columns + more) % _ALIGNED == 0)
        filters = F.pad(self.weight, (0, unused)).permute(0, 1, 3, 2).flatten(1, 2).unsqueeze(3)
        shifted_NHWCl = F.pad(x_NCHW, (0, unused)).permute(0, 2, 3, 1).unfold(2, columns + unused, 1)
        return F.conv2d(shifted_NHWCl.flatten(3).permute(0, 3, 1, 2), filters, self.bias)


def rows_conv(conv: nn.Conv2d, *, aligned: int = 1) -> RowsConv2d:
    """Return `conv`, which has `few_outputs`, as a `RowsConv2d` over the same weights."""
    found = _with_weights_of(conv, RowsConv2d)
    found.aligned = aligned
    return found


def columns_conv(conv: nn.Conv2d) -> ColumnsConv2d:
    """Return `conv`, which has `few_inputs`, as a `ColumnsConv2d` over the same weights."""
    return _with_weights_of(conv, ColumnsConv2d)


def with_fast_ends(generator: nn.Module, *, trains: bool = False) -> nn.Module:
    """Let the first and last convolution of a ResNet generator fit a GPU's tensor cores, in place; return it.

    Its weights and their names stay as they are. Other generators stay as they are in all. Where it `trains`, the first
    convolution stays, too: the gradient of its shifted pixels is a sum of scattered values, which a GPU makes slowly.
    """
    if isinstance(generator, ResNetGenerator):
        for i, layer in enumerate(generator.model):
            if few_outputs(layer):
                generator.model[i] = rows_conv(layer, aligned=_ALIGNED)
            elif few_inputs(layer) and not trains:
                generator.model[i] = columns_conv(layer)
    return generator


def few_outputs(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Return True for a convolution that `rows_conv` takes, to few channels."""
    return _is_plain(layer) and layer.out_channels <= _FEW and layer.kernel_size[0] > 1


def few_inputs(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Return True for a convolution that `columns_conv` takes, from few channels."""
    return _is_plain(layer) and layer.in_channels <= _FEW and layer.kernel_size[1] > 1


def _is_plain(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    if not isinstance(layer, nn.Conv2d):
        return False
    geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
    return geometry == ((1, 1), (0, 0), (1, 1), 1)


def _with_weights_of(conv: nn.Conv2d, kind: type[C]) -> C:
    found = kind.__new__(kind)
    found.__dict__.update(conv.__dict__)
    return found
