"""Convolution to few channels on a CPU, whose vectors it would leave mostly empty."""

from __future__ import annotations

from typing import TypeGuard

import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import Tensor, nn

_FEW = 4


class RowsConv2d(nn.Module):
    """Convolution of stride 1 without padding: [N, in, H + k - 1, W + l - 1] to [N, out, H, W], for a k × l kernel.

    Each row of the kernel gives channels of its own, k times as many; the outputs are their sums. For 64 channels to 3
    by 7 × 7 that takes a quarter of the time.
    """

    filters: Tensor  # [out * k, in, 1, l]

    def __init__(self, conv: nn.Conv2d) -> None:
        """Take the weights of `conv`, which `fits`."""
        super().__init__()
        weight_OIkl = conv.weight.detach()
        self.out, self.rows = weight_OIkl.shape[0], weight_OIkl.shape[2]
        self.register_buffer("filters", weight_OIkl.transpose(1, 2).flatten(0, 1).unsqueeze(2).contiguous())
        self.bias = None if conv.bias is None else conv.bias.detach()

    def forward(self, x_NCHW: Tensor) -> Tensor:
        of_rows = F.conv2d(x_NCHW, self.filters).unflatten(1, (self.out, self.rows))
        height = x_NCHW.shape[2] - self.rows + 1
        y_NCHW = (
            of_rows[:, :, 0, :height] if self.bias is None else of_rows[:, :, 0, :height] + self.bias[:, None, None]
        )
        for row in range(1, self.rows):
            y_NCHW = y_NCHW + of_rows[:, :, row, row : row + height]
        return y_NCHW


def fits(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Return True for a convolution of that kind to few channels."""
    if not isinstance(layer, nn.Conv2d) or layer.out_channels > _FEW:
        return False
    geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
    return geometry == ((1, 1), (0, 0), (1, 1), 1) and layer.kernel_size[0] > 1
