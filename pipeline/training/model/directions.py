"""Directions that a training run learns, and which networks of it stand for each in a bundle.

The source side of the training is A of the networks, whichever side of the store it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gan_models import DiscriminatorConfig, GeneratorConfig
from gan_models.bundle import OPPOSITE, Direction
from pipeline.training.config.train import TrainConfig


@dataclass(frozen=True, kw_only=True)
class LearnedDirection:
    """Networks of a run for one direction."""

    direction: Direction
    generator: str
    """Name of the network."""
    generator_config: GeneratorConfig
    discriminator: str
    """Name of the network that judges this direction's translations."""
    discriminator_config: DiscriminatorConfig


def learned_directions(config: TrainConfig) -> list[LearnedDirection]:
    """Return one for each direction that the run learns, the one it is run for first."""
    model = config.model()
    forth: GeneratorConfig = model.generator
    back = replace(forth, in_channels=forth.out_channels, out_channels=forth.in_channels)
    return [
        LearnedDirection(
            direction=config.direction if source == "A" else OPPOSITE[config.direction],
            generator=generator,
            generator_config=forth if source == "A" else back,
            discriminator=discriminator,
            discriminator_config=model.discriminator
            if source == "A"
            else replace(model.discriminator, in_channels=back.out_channels),
        )
        for source, generator, discriminator in config.objective_type.learns
    ]
