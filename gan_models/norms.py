"""Normalisations of the pix2pix and CycleGAN articles, five in all, and the initial weights that go with them."""

import torch
from torch import Generator, Tensor, nn

from gan_models.config import DiscriminatorConfig, GeneratorConfig


class GroupNorm(nn.GroupNorm):
    """Group norm of torch over [N, C, H, W], computed on NCHW memory when eager.

    torch 2.13 has two kernels for a CPU. The channels_last one computes the variance as E[x²] − E[x]², which loses up
    to four digits in fp32, and its backward is several times slower in bf16. A compiled graph uses neither.
    """

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            return super().forward(x_NCHW.contiguous())
        if x_NCHW.is_cuda and self.num_groups == self.num_channels:
            return instance_norm(x_NCHW, self.weight, self.bias, self.eps)
        return super().forward(x_NCHW)


def instance_norm(x_NCHW: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise each channel of each image, in fp32, and keep the memory format; for a compiler to fuse.

    A compiled group norm gives NCHW, which every convolution then has to turn into NHWC. The result is fp32 inside an
    autocast context, like that of torch's own norms, else of the type of `x_NCHW`.
    """
    values = x_NCHW.float()
    variance, mean = torch.var_mean(values, (2, 3), correction=0, keepdim=True)
    values = (values - mean) * torch.rsqrt(variance + eps)
    if weight is not None:
        values = values * weight[:, None, None]
    if bias is not None:
        values = values + bias[:, None, None]
    return values if torch.is_autocast_enabled(x_NCHW.device.type) else values.to(x_NCHW.dtype)


def affine(norm: nn.GroupNorm, mean_C: Tensor, square_C: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scale and shift, fp32 [C] each, that `norm` is for an image with these means and mean squares.

    The means are those of each channel over the whole image, best in fp64.
    """
    size = norm.num_channels // norm.num_groups
    mean, square = (each.view(-1, size).mean(1) for each in (mean_C, square_C))
    scale = 1 / ((square - mean * mean).clamp(min=0) + norm.eps).sqrt()
    scale, shift = (each.repeat_interleave(size) for each in (scale, -mean * scale))
    if norm.weight is not None:
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    return scale.float(), shift.float()


def norm_layer(config: GeneratorConfig | DiscriminatorConfig, channels: int) -> nn.Module:
    """Return the normalisation that `config` asks for, over `channels` channels of [N, C, H, W].

    Instance norm is a group norm with one group for each channel, which is the same function. torch's own
    `InstanceNorm2d` must not be used: its eager backward on a CPU silently gives a wrong gradient at batch 1 when the
    incoming gradient is channels_last (torch 2.13), and it is several times slower. Layer norm is one group.
    """
    match config.norm:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "layer":
            return GroupNorm(1, channels)
        case "instance":
            return GroupNorm(channels, channels, affine=config.affine)
        case "group":
            return GroupNorm(config.groups, channels)
        case "none":
            return nn.Identity()


def conv_has_bias(config: GeneratorConfig | DiscriminatorConfig) -> bool:
    """Return True where the inner convolutions have a bias: in the published models, under instance norm only.

    (Under plain instance norm the bias has no effect; it is there so that checkpoints fit.)
    """
    return config.norm == "instance"


def initialise(network: nn.Module, rng: Generator | None = None) -> None:
    """Fill `network` in place: convolutions N(0, 0.02), biases 0, batch-norm scales N(1, 0.02), shifts 0.

    (Isola et al. 2017, 6.2.) The scales of the other norms start at 1. `rng` defaults to torch's global generator. A
    network on the meta device has nothing to fill and is left alone: drawing there would import torch's compiler.
    """
    if any(parameter.is_meta for parameter in network.parameters()):
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02, generator=rng)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02, generator=rng)
            nn.init.zeros_(module.bias)
