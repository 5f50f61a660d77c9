"""Trunk of a ResNet generator with a quarter of the multiplications, for CPUs that have only fp32.

Minimal filtering F(4×4, 3×3) (Lavin and Gray 2016, section 4): a tile of 4×4 outputs is made from 6×6 inputs with 36
products instead of 144. Tiles and filters are transformed to the values of polynomials at six points, by small
products. What remains are 36 dense products of [tiles, in] by [in, out].

The points are 0, ±√½, ±√2 and ∞. The usual 0, ±1, ±2, ∞ double the rounding error, which here is about five times that
of the direct convolution in fp32, 1e-6 of the output's root mean square.

Both gradients also take a quarter of the multiplications, with products at the same points.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import Tensor, nn

from gan_models.resnet import ResNetBlock
from gan_models.translation import copy_with_same_weights

_TILE = 4
_MOST_TILES = 1024  # at once, over the batch: limits the memory to 36/16 of three such activations
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
    """Return a form of `generator` whose residual blocks convolve by Winograd's filtering; for inference in fp32.

    It shares all weights except those of the blocks' convolutions, which are transformed here once (four times as much
    memory) and do not follow further training. A generator without residual blocks comes back unchanged.
    """
    translator = copy_with_same_weights(generator)
    _replace_trunk(translator, FixedWinogradConv2d)
    return translator


def train_winograd_trunk(generator: nn.Module) -> None:
    """Make the residual blocks of `generator` convolve by Winograd's filtering from now on, in training, too.

    Its parameters stay the same objects under the same names. A generator without residual blocks stays unchanged.
    """
    _replace_trunk(generator, WinogradConv2d)


class WinogradConv2d(nn.Module):
    """Convolution of 3×3 and stride 1 without padding: [N, in, H + 2, W + 2] to [N, out, H, W], for any H and W.

    `weight` and `bias` are those of an `nn.Conv2d`, and the filters follow them. For the backward it keeps what a
    direct convolution keeps, its input and its weight, and transforms both to the points again.
    """

    weight: Tensor  # [out, in, 3, 3]
    bias: Tensor | None  # [out]

    def __init__(self, conv: nn.Conv2d) -> None:
        """Use the parameters of `conv`. Raises ValueError where it is another kind of convolution."""
        super().__init__()
        _check(conv)
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return _in_whole_tiles(x_NCHW, lambda whole_NCHW: _Convolution.apply(whole_NCHW, self.weight), self.bias)


class FixedWinogradConv2d(nn.Module):
    """Variant of WinogradConv2d with filters that are transformed once, in float64, and do not train."""

    filters: Tensor  # [P, in, out]

    def __init__(self, conv: nn.Conv2d) -> None:
        """Transform the weights of `conv`. Raises ValueError where it is another kind of convolution."""
        super().__init__()
        _check(conv)
        weight = conv.weight.detach()
        self.register_buffer("filters", _filters_at_points(weight.double()).to(weight.dtype))
        self.bias = None if conv.bias is None else conv.bias.detach()

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return _in_whole_tiles(x_NCHW, lambda whole_NCHW: _convolve(whole_NCHW, self.filters), self.bias)


class _Convolution(torch.autograd.Function):
    """Convolution of whole tiles by [out, in, 3, 3]. Each step of the backward is the transpose of one of the forward.

    Left to autograd it would be a tenth faster, but would keep tiles and filters at the points, 36/16 and 4 times as
    large: a step of CycleGAN with 9 blocks at 256² and batch 1 would take 5.3 GB, where it takes 4.0.
    """

    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, weight_OChw: Tensor) -> Tensor:
        ctx.save_for_backward(x_NCHW, weight_OChw)
        return _convolve(x_NCHW, _filters_at_points(weight_OChw))

    @staticmethod
    def backward(ctx: Any, gradient_NOHW: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x_NCHW, weight_OChw = ctx.saved_tensors
        wants_x, wants_weight = ctx.needs_input_grad
        filters_PCO = _filters_at_points(weight_OChw)
        of_x_NHWC = torch.zeros_like(x_NCHW.permute(0, 2, 3, 1), memory_format=torch.contiguous_format)
        of_filters_PCO = torch.zeros_like(filters_PCO)
        for pixels, outputs in _parts(x_NCHW):
            of_products_PTO = _outputs_to_points(gradient_NOHW[:, :, outputs])
            if wants_x:
                _add_points_to_tiles(torch.bmm(of_products_PTO, filters_PCO.transpose(1, 2)), of_x_NHWC[:, pixels])
            if wants_weight:
                points_PTC = _tiles_to_points(x_NCHW[:, :, pixels])
                of_filters_PCO.baddbmm_(points_PTC.transpose(1, 2), of_products_PTO)
        of_x_NCHW = of_x_NHWC.permute(0, 3, 1, 2) if wants_x else None
        return of_x_NCHW, _points_to_filters(of_filters_PCO) if wants_weight else None


def _replace_trunk(generator: nn.Module, form: Callable[[nn.Conv2d], nn.Module]) -> None:
    for block in generator.modules():
        if isinstance(block, ResNetBlock):
            for name, layer in block.conv_block.named_children():
                if isinstance(layer, nn.Conv2d):
                    setattr(block.conv_block, name, form(layer))


def _check(conv: nn.Conv2d) -> None:
    geometry = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    if geometry != ((3, 3), (1, 1), (0, 0), (1, 1), 1):
        raise ValueError(f"{conv} is no 3×3 convolution of stride 1 without padding")


def _in_whole_tiles(x_NCHW: Tensor, convolve: Callable[[Tensor], Tensor], bias: Tensor | None) -> Tensor:
    """Apply `convolve` to an image padded to whole tiles, and crop the result to the requested size."""
    height, width = x_NCHW.shape[2] - 2, x_NCHW.shape[3] - 2
    if height % _TILE or width % _TILE:
        x_NCHW = F.pad(x_NCHW, (0, -width % _TILE, 0, -height % _TILE))
    y_NCHW = convolve(x_NCHW)[:, :, :height, :width]
    return y_NCHW if bias is None else y_NCHW + bias[:, None, None]


def _convolve(x_NCHW: Tensor, filters_PCO: Tensor) -> Tensor:
    """Convolve whole tiles: [N, in, H + 2, W + 2] to [N, out, H, W]."""
    parts = [
        _points_to_outputs(torch.bmm(_tiles_to_points(part_NCHW), filters_PCO), part_NCHW.shape)
        for part_NCHW in (x_NCHW[:, :, pixels] for pixels, _ in _parts(x_NCHW))
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def _parts(x_NCHW: Tensor) -> Iterator[tuple[slice, slice]]:
    """Yield rows of pixels, and the rows of outputs that they give, for some rows of tiles at a time."""
    height, across = x_NCHW.shape[2] - 2, x_NCHW.shape[3] // _TILE
    rows = _TILE * max(1, _MOST_TILES // (x_NCHW.shape[0] * across))
    for first in range(0, height, rows):
        last = min(first + rows, height)
        yield slice(first, last + 2), slice(first, last)


# i, j count the points of rows and columns (P both), p, q the outputs of a tile, T the tiles. Rows come first, then
# columns: each time, six slices, 4 pixels apart, become the values at the six points. Channels are innermost, so that
# every slice is copied in long runs.


def _tiles_to_points(x_NCHW: Tensor) -> Tensor:
    """Transform [N, C, H + 2, W + 2] to [P, T, C]."""
    to_points = x_NCHW.new_tensor(_INPUT)
    batch, channels, height, width = x_NCHW.shape
    x_NHWC = x_NCHW.permute(0, 2, 3, 1)
    rows = torch.stack([x_NHWC[:, i : i + height - 5 : _TILE] for i in range(6)])
    rows_iNhWC = (to_points @ rows.view(6, -1)).view(6, batch, -1, width, channels)
    columns = torch.stack([rows_iNhWC[:, :, :, j : j + width - 5 : _TILE] for j in range(6)], 1)
    return torch.matmul(to_points, columns.view(6, 6, -1)).view(36, -1, channels)


def _add_points_to_tiles(points_PTC: Tensor, x_NHWC: Tensor) -> None:
    """Add to each pixel of [N, H + 2, W + 2, C] what its tiles give: the transpose of `_tiles_to_points`."""
    to_points = points_PTC.new_tensor(_INPUT)
    batch, height, width, channels = x_NHWC.shape
    down, across = height // _TILE, width // _TILE
    columns = torch.matmul(to_points.T, points_PTC.view(6, 6, -1)).view(6, 6, batch, down, across, channels)
    rows_iNhWC = points_PTC.new_zeros(6, batch, down, width, channels)
    for j in range(6):
        rows_iNhWC[:, :, :, j : j + width - 5 : _TILE] += columns[:, j]
    rows = (to_points.T @ rows_iNhWC.view(6, -1)).view(6, batch, down, width, channels)
    for i in range(6):
        x_NHWC[:, i : i + height - 5 : _TILE] += rows[i]


def _points_to_outputs(products_PTO: Tensor, shape: Sequence[int]) -> Tensor:
    """Transform [P, T, out] to [N, out, H, W], for tiles of [N, in, H + 2, W + 2]."""
    from_points = products_PTO.new_tensor(_OUTPUT)
    batch, _, height, width = shape
    down, across = height // _TILE, width // _TILE
    outputs_iq = torch.matmul(from_points, products_PTO.view(6, 6, -1))
    outputs_pq = (from_points @ outputs_iq.view(6, -1)).view(_TILE, _TILE, batch, down, across, -1)
    outputs_NHWO = outputs_pq.permute(2, 3, 0, 4, 1, 5).reshape(batch, down * _TILE, across * _TILE, -1)
    return outputs_NHWO.permute(0, 3, 1, 2)


def _outputs_to_points(outputs_NOHW: Tensor) -> Tensor:
    """Apply the transpose of `_points_to_outputs`."""
    from_points = outputs_NOHW.new_tensor(_OUTPUT)
    batch, out, height, width = outputs_NOHW.shape
    outputs_NHWO = outputs_NOHW.permute(0, 2, 3, 1).contiguous()
    tiles = outputs_NHWO.view(batch, height // _TILE, _TILE, width // _TILE, _TILE, out)
    outputs_pq = tiles.permute(2, 4, 0, 1, 3, 5).reshape(_TILE, -1)
    outputs_iq = (from_points.T @ outputs_pq).view(6, _TILE, -1)
    return torch.matmul(from_points.T, outputs_iq).view(36, -1, out)


def _filters_at_points(weight_OChw: Tensor) -> Tensor:
    """Transform [out, in, 3, 3] to [P, in, out]."""
    at_points = weight_OChw.new_tensor(_FILTER)
    out, channels = weight_OChw.shape[:2]
    rows = (at_points @ weight_OChw.permute(2, 3, 1, 0).reshape(3, -1)).view(6, 3, -1)
    return torch.matmul(at_points, rows).view(36, channels, out)


def _points_to_filters(filters_PCO: Tensor) -> Tensor:
    """Apply the transpose of `_filters_at_points`."""
    at_points = filters_PCO.new_tensor(_FILTER)
    _, channels, out = filters_PCO.shape
    rows = torch.matmul(at_points.T, filters_PCO.view(6, 6, -1))
    return (at_points.T @ rows.view(6, -1)).view(3, 3, channels, out).permute(3, 2, 0, 1)
