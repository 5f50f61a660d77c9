"""Translation of one Pillow image. The only module that imports Pillow, and only when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from gan_models.config import GeneratorConfig
from gan_models.pixels import from_pixels, pad_by_reflection, to_pixels
from gan_models.translation import translation_mode

if TYPE_CHECKING:
    from PIL.Image import Image

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def translate_picture(generator: nn.Module, config: GeneratorConfig, image: Image) -> Image:
    """Translate `image`, converted to the generator's channels, at its own size (padded, then cropped).

    The computation runs on the device of the generator's weights, in their precision. Raises ValueError for channels
    that no mode has, and for 16 bits.
    """
    from PIL import Image as PillowImage

    for name, channels in (("takes", config.in_channels), ("gives", config.out_channels)):
        if channels not in _MODES:
            raise ValueError(f"the generator {name} {channels} channels, and a Pillow image has 1, 3 or 4")
    if (config.in_bits, config.out_bits) != (8, 8):
        raise ValueError("the generator takes or gives 16 bits a channel, and a Pillow image has 8")
    source = image.convert(_MODES[config.in_channels])
    pixels = torch.frombuffer(bytearray(source.tobytes()), dtype=torch.uint8)
    pixels_CHW = pixels.view(source.height, source.width, config.in_channels).permute(2, 0, 1)
    first = next(generator.parameters())
    with torch.inference_mode():
        padded_NCHW = pad_by_reflection(from_pixels(pixels_CHW[None]), config.size_multiple, config.least_size)
        output_NCHW = translation_mode(generator)(padded_NCHW.to(first.device, first.dtype))
        output_HWC = to_pixels(output_NCHW[0, :, : source.height, : source.width]).permute(1, 2, 0).cpu()
    data = bytearray(output_HWC.numel())
    torch.frombuffer(data, dtype=torch.uint8).view(output_HWC.shape).copy_(output_HWC)
    return PillowImage.frombytes(_MODES[config.out_channels], source.size, bytes(data))
