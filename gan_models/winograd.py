"""A ResNet generator's trunk with a quarter of the multiplications, for inference on CPUs that have only fp32.

Minimal filtering F(4×4, 3×3) (Lavin and Gray 2016, section 4): a tile of 4×4 outputs is made from 6×6 inputs by 36
products instead of 144. Tiles and filters are transformed by polynomials' values at six points, the transforms being
small products themselves, and what is left are 36 dense products of [tiles, in] by [in, out].

Points are 0, ±√½, ±√2 and ∞. The usual 0, ±1, ±2, ∞ double the rounding error, which here is about five times that
of the direct convolution in fp32, 1e-6 of the output's root mean square.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import Tensor, nn

from gan_models.resnet import ResNetBlock
from gan_models.translation import copy_with_same_weights

_TILE = 4
_MOST_TILES = 1024  # at once, over the batch: bounds the memory to 36/16 of three such activations
_HALF, _TWO = math.sqrt(0.5), math.sqrt(2)
_INPUT = (  # values of a tile at the points, [6, 6]
    (1, 0, -2.5, 0, 1, 0),
    (0, -_TWO, -2, _HALF, 1, 0),
    (0, _TWO, -2, -_HALF, 1, 0),
    (0, -_HALF, -0.5, _TWO, 1, 0),
    (0, _HALF, -0.5, -_TWO, 1, 0),
    (0, 1, 0, -2.5, 0, 1),
)
_FILTER = (  # values of a filter at the points, [6, 3]
    (1, 0, 0),
    (-2 / 3, -_TWO / 3, -1 / 3),
    (-2 / 3, _TWO / 3, -1 / 3),
    (1 / 6, _TWO / 6, 1 / 3),
    (1 / 6, -_TWO / 6, 1 / 3),
    (0, 0, 1),
)
_OUTPUT = (  # from values at the points back to a tile, [4, 6]
    (1, 1, 1, 1, 1, 0),
    (0, _HALF, -_HALF, _TWO, -_TWO, 0),
    (0, 0.5, 0.5, 2, 2, 0),
    (0, _HALF / 2, -_HALF / 2, 2 * _TWO, -2 * _TWO, 1),
)


def with_winograd_trunk(generator: nn.Module) -> nn.Module:
    """A form of `generator` whose residual blocks convolve by Winograd's filtering; for inference in fp32.

    It shares all weights but those of the blocks' convolutions, which are transformed here once (four times as much
    memory) and do not follow further training. A generator without residual blocks comes back as it is.
    """
    translator = copy_with_same_weights(generator)
    for block in translator.modules():
        if isinstance(block, ResNetBlock):
            for name, layer in block.conv_block.named_children():
                if isinstance(layer, nn.Conv2d):
                    setattr(block.conv_block, name, WinogradConv2d(layer))
    return translator


class WinogradConv2d(nn.Module):
    """A 3×3 convolution of stride 1 without padding: [N, in, H + 2, W + 2] to [N, out, H, W], of any H and W."""

    filters: Tensor  # [P, in, out]
    to_points: Tensor
    from_points: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        """Of the weights of `conv`. Raises ValueError where it is another kind of convolution."""
        super().__init__()
        geometry = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
        if geometry != ((3, 3), (1, 1), (0, 0), (1, 1), 1):
            raise ValueError(f"{conv} is no 3×3 convolution of stride 1 without padding")
        weight = conv.weight.detach()
        at_points = torch.tensor(_FILTER, dtype=torch.float64, device=weight.device)
        filters = torch.einsum("ia,ocab,jb->ijco", at_points, weight.double(), at_points)
        self.register_buffer("filters", filters.flatten(0, 1).to(weight.dtype).contiguous())
        self.register_buffer("to_points", torch.tensor(_INPUT, dtype=torch.float64).to(weight))
        self.register_buffer("from_points", torch.tensor(_OUTPUT, dtype=torch.float64).to(weight))
        self.bias = None if conv.bias is None else conv.bias.detach()

    def forward(self, x_NCHW: Tensor) -> Tensor:
        batch, _, height, width = x_NCHW.shape[0], x_NCHW.shape[1], x_NCHW.shape[2] - 2, x_NCHW.shape[3] - 2
        down, across = -(-height // _TILE), -(-width // _TILE)
        x_NCHW = F.pad(x_NCHW, (0, across * _TILE - width, 0, down * _TILE - height))
        rows = max(1, _MOST_TILES // (batch * across))
        parts = [
            self._tiles(x_NCHW[:, :, _TILE * row : _TILE * min(row + rows, down) + 2]) for row in range(0, down, rows)
        ]
        y_NCHW = parts[0] if len(parts) == 1 else torch.cat(parts, 2)
        y_NCHW = y_NCHW[:, :, :height, :width]
        return y_NCHW if self.bias is None else y_NCHW + self.bias[:, None, None]

    def _tiles(self, x_NCHW: Tensor) -> Tensor:
        """The same for whole tiles. i, j count the points of rows and columns, p, q the outputs of a tile, T the tiles.

        First the rows, then the columns: each time six slices, 4 pixels apart, become the values at the six points.
        Channels are innermost, so that every slice is copied in long runs.
        """
        batch, channels, height, width = x_NCHW.shape
        down, across = (height - 2) // _TILE, (width - 2) // _TILE
        x_NHWC = x_NCHW.permute(0, 2, 3, 1)
        rows = torch.stack([x_NHWC[:, i : i + _TILE * down - 3 : _TILE] for i in range(6)])
        rows_iNhWC = (self.to_points @ rows.view(6, -1)).view(6, batch, down, width, channels)
        columns = torch.stack([rows_iNhWC[:, :, :, j : j + _TILE * across - 3 : _TILE] for j in range(6)], 1)
        points_ijTC = torch.matmul(self.to_points, columns.view(6, 6, -1)).view(36, -1, channels)
        products_ijTO = torch.bmm(points_ijTC, self.filters).view(6, 6, -1)
        outputs_iq = torch.matmul(self.from_points, products_ijTO)
        outputs_pq = (self.from_points @ outputs_iq.view(6, -1)).view(_TILE, _TILE, batch, down, across, -1)
        outputs_NHWO = outputs_pq.permute(2, 3, 0, 4, 1, 5).reshape(batch, down * _TILE, across * _TILE, -1)
        return outputs_NHWO.permute(0, 3, 1, 2)
