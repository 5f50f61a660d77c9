"""U-Net generator of pix2pix (Isola et al. 2017, section 3.2.1 and appendix 6.1.1).

Module names follow the published checkpoints: `model.model.0` is the outermost down convolution, and each block holds
the next deeper one.
"""

import torch
from torch import Tensor, nn

from gan_models.config import GeneratorConfig
from gan_models.norms import conv_has_bias, norm_layer

_WIDEST = 8  # in multiples of the first width


class UNetGenerator(nn.Module):
    """U-Net: [N, in, H, W] in [-1, 1] to [N, out, H, W] in [-1, 1]; H and W are multiples of 2^depth.

    54,413,955 parameters with depth 8 ("U-Net 256"), 41,828,995 with depth 7, at width 64 with batch norm and 3
    channels; 6.05 GMAC for an image of 256².
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.model = UNetBlock(config, level=0)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        return self.model(image_NCHW)


class UNetBlock(nn.Module):
    """One halving, everything deeper, and the doubling back; below the outermost, its output has its input appended.

    `level` 0 is the outermost, `config.depth - 1` the innermost.
    """

    def __init__(self, config: GeneratorConfig, *, level: int) -> None:
        super().__init__()
        self.skips = level > 0
        outer = _channels(config, level - 1)
        inner = _channels(config, level)
        bias = conv_has_bias(config)

        layers: list[nn.Module]
        if level == 0:
            down = nn.Conv2d(config.in_channels, inner, 4, stride=2, padding=1, bias=bias)
            deeper = UNetBlock(config, level=1)
            up = nn.ConvTranspose2d(2 * inner, config.out_channels, 4, stride=2, padding=1)
            layers = [down, deeper, nn.ReLU(inplace=True), up, nn.Tanh()]
        elif level == config.depth - 1:
            down = nn.Conv2d(outer, inner, 4, stride=2, padding=1, bias=bias)
            up = nn.ConvTranspose2d(inner, outer, 4, stride=2, padding=1, bias=bias)
            layers = [nn.LeakyReLU(0.2), down, nn.ReLU(inplace=True), up, norm_layer(config, outer)]
        else:
            down = nn.Conv2d(outer, inner, 4, stride=2, padding=1, bias=bias)
            deeper = UNetBlock(config, level=level + 1)
            up = nn.ConvTranspose2d(2 * inner, outer, 4, stride=2, padding=1, bias=bias)
            layers = [nn.LeakyReLU(0.2), down, norm_layer(config, inner), deeper]
            layers += [nn.ReLU(inplace=True), up, norm_layer(config, outer)]
            if config.dropout and outer == inner:
                layers.append(nn.Dropout(0.5))
        self.model = nn.Sequential(*layers)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        # The published code applies the LeakyReLU to the skip in place. The ReLU after the concatenation makes both the
        # same, so the skip stays unchanged here.
        y_NCHW = self.model(x_NCHW)
        return torch.cat([x_NCHW, y_NCHW], 1) if self.skips else y_NCHW


def _channels(config: GeneratorConfig, level: int) -> int:
    """Return the channels at the bottom of the block of `level`: doubled at each level, up to eightfold."""
    return config.width * min(2 ** max(level, 0), _WIDEST)
