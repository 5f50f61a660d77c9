"""Directions that a training run learns, and the networks that stand for each of them in a bundle.

The source side of the training is called A in the networks' names, whichever side of the store it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gan_models import DiscriminatorConfig, GeneratorConfig
from gan_models.config import OPPOSITE, Direction
from gan_models.objective import Domain
from pipeline.training.config.train import TrainConfig


@dataclass(frozen=True, kw_only=True)
class LearnedDirection:
    """Networks of a run that learn one direction."""

    direction: Direction
    source: Domain
    """Domain of the networks that is translated: the source side of the training is A."""
    generator: str
    """Name of the generator."""
    generator_config: GeneratorConfig
    discriminator: str
    """Name of the discriminator that judges this direction's translations."""
    discriminator_config: DiscriminatorConfig


def learned_directions(config: TrainConfig) -> list[LearnedDirection]:
    """Return one entry for each direction that the run learns, the configured direction first."""
    model = config.model()
    forward: GeneratorConfig = model.generator
    backward = replace(forward, in_channels=forward.out_channels, out_channels=forward.in_channels)
    return [
        LearnedDirection(
            direction=config.direction if source == "A" else OPPOSITE[config.direction],
            source=source,
            generator=generator,
            generator_config=forward if source == "A" else backward,
            discriminator=discriminator,
            discriminator_config=model.discriminator
            if source == "A"
            else replace(model.discriminator, in_channels=backward.out_channels),
        )
        for source, generator, discriminator in config.objective_type.learns
    ]
