"""Construction of networks with their initial weights from configurations."""

from torch import Generator, nn

from gan_models.config import DiscriminatorConfig, GeneratorConfig
from gan_models.discriminators import PatchDiscriminator, PixelDiscriminator
from gan_models.norms import initialise
from gan_models.resnet import ResNetGenerator
from gan_models.unet import UNetGenerator


def build_generator(config: GeneratorConfig, *, generator: Generator | None = None) -> nn.Module:
    """Build a generator in training mode, initialised from `generator` (default: torch's global generator)."""
    network = UNetGenerator(config) if config.kind == "unet" else ResNetGenerator(config)
    initialise(network, generator)
    return network


def build_discriminator(config: DiscriminatorConfig, *, generator: Generator | None = None) -> nn.Module:
    """Build a discriminator in training mode, initialised from `generator` (default: torch's global generator)."""
    network = PatchDiscriminator(config) if config.kind == "patch" else PixelDiscriminator(config)
    initialise(network, generator)
    return network


def build_network(config: GeneratorConfig | DiscriminatorConfig) -> nn.Module:
    """Build the generator or the discriminator of `config`, as above."""
    return build_generator(config) if isinstance(config, GeneratorConfig) else build_discriminator(config)
