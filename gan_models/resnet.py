"""ResNet generator of CycleGAN (Zhu et al. 2017, appendix 7.2, after Johnson et al. 2016).

Module names follow the published checkpoints: `model.N`, and `conv_block.N` inside a residual block.
"""

from torch import Tensor, nn

from gan_models.config import GeneratorConfig
from gan_models.norms import conv_has_bias, norm_layer


class ResNetGenerator(nn.Module):
    """ResNet: [N, in, H, W] in [-1, 1] to [N, out, H, W] in [-1, 1]; H and W are multiples of 4, 8 or more.

    11,378,179 parameters with 9 blocks, 7,837,699 with 6, at width 64 with instance norm and 3 channels; 49.55 GMAC for
    an image of 256² with 9 blocks.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        width, bias = config.width, conv_has_bias(config)
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(config.in_channels, width, 7, bias=bias),
            norm_layer(config, width),
            nn.ReLU(inplace=True),
        ]
        for channels in (width, 2 * width):
            layers += [
                nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=bias),
                norm_layer(config, 2 * channels),
                nn.ReLU(inplace=True),
            ]
        layers += [ResNetBlock(config, 4 * width) for _ in range(config.depth)]
        for channels in (4 * width, 2 * width):
            layers += [
                nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1, bias=bias),
                norm_layer(config, channels // 2),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, config.out_channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        return self.model(image_NCHW)


class ResNetBlock(nn.Module):
    """Residual block x + f(x), with f two 3×3 convolutions; no activation after the sum. [N, C, H, W] to the same."""

    def __init__(self, config: GeneratorConfig, channels: int) -> None:
        super().__init__()
        bias = conv_has_bias(config)
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            norm_layer(config, channels),
            nn.ReLU(inplace=True),
            # No Identity in place of dropout: it would shift the checkpoint's names of the following layers.
            *([nn.Dropout(0.5)] if config.dropout else []),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            norm_layer(config, channels),
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return x_NCHW + self.conv_block(x_NCHW)
