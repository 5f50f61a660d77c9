"""pix2pix and CycleGAN in plain PyTorch: networks, losses, one training step, and bundles of trained weights.

It needs torch, safetensors and the standard library (Pillow only to translate a Pillow image), reads no file that it
is not given, and knows nothing of the programs around it.
"""

from gan_models.build import build_discriminator, build_generator
from gan_models.config import DiscriminatorConfig, GeneratorConfig
from gan_models.translation import translation_mode

__all__ = [
    "DiscriminatorConfig",
    "GeneratorConfig",
    "build_discriminator",
    "build_generator",
    "translation_mode",
]
