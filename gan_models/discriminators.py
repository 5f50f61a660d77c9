"""Discriminators of pix2pix and CycleGAN: PatchGAN and PixelGAN (Isola et al. 2017, 3.2.2 and 6.1.2).

Their outputs are logits (no sigmoid). Module names follow the published checkpoints: `model.N` and `net.N`.
"""

from torch import Tensor, nn

from gan_models.config import DiscriminatorConfig
from gan_models.norms import conv_has_bias, norm_layer

_WIDEST = 8  # in multiples of the first width


class PatchDiscriminator(nn.Module):
    """PatchGAN: [N, C, H, W] in [-1, 1] to logits [N, 1, h, w], one for each patch; 256² gives 30×30 with 3 layers.

    With 3 layers at width 64: 2,764,737 parameters (3 channels, instance norm), 2,768,705 (6 channels, batch norm).
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        bias = conv_has_bias(config)
        layers: list[nn.Module] = [
            nn.Conv2d(config.in_channels, config.width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        channels = config.width
        for layer in range(1, config.layers + 1):
            wider = config.width * min(2**layer, _WIDEST)
            stride = 2 if layer < config.layers else 1
            layers += [
                nn.Conv2d(channels, wider, 4, stride=stride, padding=1, bias=bias),
                norm_layer(config, wider),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            channels = wider
        layers.append(nn.Conv2d(channels, 1, 4, padding=1))
        self.model = nn.Sequential(*layers)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        return self.model(image_NCHW)


class PixelDiscriminator(nn.Module):
    """PixelGAN: [N, C, H, W] in [-1, 1] to logits [N, 1, H, W], each from its pixel alone.

    At width 64 with 6 channels: 8,897 parameters (instance norm), 9,024 (batch norm).
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        width, bias = config.width, conv_has_bias(config)
        self.net = nn.Sequential(
            nn.Conv2d(config.in_channels, width, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, 2 * width, 1, bias=bias),
            norm_layer(config, 2 * width),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * width, 1, 1, bias=bias),
        )

    def forward(self, image_NCHW: Tensor) -> Tensor:
        return self.net(image_NCHW)
