"""Which networks of a training run stand for which direction in a bundle.

The source side of the training is A of the networks, whichever side of the store it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gan_models import CycleGANConfig, DiscriminatorConfig, GeneratorConfig
from gan_models.bundle import OPPOSITE, Direction
from pipeline.training.config.train import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a run has for one direction."""

    direction: Direction
    generator: str
    """Name of the network."""
    generator_config: GeneratorConfig
    discriminator: str
    """Name of the network that judges this direction's translations."""
    discriminator_config: DiscriminatorConfig


def places(config: TrainConfig) -> list[Place]:
    """One for each direction that the run learns, the one it is run for first."""
    model = config.model()
    cyclegan = isinstance(model, CycleGANConfig)
    forth = Place(
        direction=config.direction,
        generator="g_AB" if cyclegan else "g",
        generator_config=model.generator,
        discriminator="d_B" if cyclegan else "d",
        discriminator_config=model.discriminator,
    )
    if not cyclegan:
        return [forth]
    of_a, of_b = model.generator.in_channels, model.generator.out_channels
    back = Place(
        direction=OPPOSITE[config.direction],
        generator="g_BA",
        generator_config=replace(model.generator, in_channels=of_b, out_channels=of_a),
        discriminator="d_A",
        discriminator_config=replace(model.discriminator, in_channels=of_a),
    )
    return [forth, back]
