"""Initial weights from a model bundle, either of an earlier run or imported from the published code.

Where a bundle has both the trained weights and their moving average, the trained weights are used. The discriminators
have judged those, and steps of the usual size would soon undo what the average has smoothed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gan_models import Bundle, DiscriminatorConfig, GeneratorConfig
from pipeline.errors import UserError
from pipeline.models.bundles import open_bundle
from pipeline.recipe import differences
from pipeline.training.config.train import TrainConfig
from pipeline.training.model.directions import LearnedDirection, learned_directions


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Weights that a run begins with."""

    url: str
    networks: Mapping[str, Mapping[str, Tensor]]
    """State dict of each network that the bundle has; the other networks begin at random."""
    sha256: str
    """SHA-256 of the weights and architectures of the bundle's generators, without moving averages."""

    @property
    def identity(self) -> dict[str, Any]:
        """Part of this start that belongs to the run's recipe: everything except the location."""
        return {"sha256": self.sha256, "networks": sorted(self.networks)}

    def __str__(self) -> str:
        return f"{', '.join(self.networks)} of {self.url} (sha256 {self.sha256[:16]}…)"


def read(config: TrainConfig) -> WarmStart:
    """Return those networks of the bundle at `config.start_from` that the run has, too.

    Generators are matched by direction; CycleGAN takes both where the bundle has both. Discriminators are taken from a
    bundle of the same objective only, since another objective's discriminators judge something else. Raises a one-line
    UserError where there is no bundle, where the run learns none of its directions, or where an architecture differs (a
    U-Net's dropout may differ).
    """
    bundle = open_bundle(config.start_from, ema=False, discriminators=True)
    ours = learned_directions(config)
    if not any(learned.direction in bundle.generators for learned in ours):
        raise UserError(
            f"{config.start_from}: the bundle has no generator {ours[0].direction}, which this run learns; it has "
            f"{', '.join(bundle.directions)}: set direction to it, or choose another bundle"
        )
    differs = [line for learned in ours for line in _differences(config, bundle, learned)]
    if differs:
        raise UserError(
            f"{config.start_from}: its networks are others than this run's: {'; '.join(dict.fromkeys(differs))}; "
            "set what the bundle has, or begin without it"
        )
    found: dict[str, Mapping[str, Tensor]] = {}
    for learned in ours:
        if learned.direction in bundle.generators:
            found[learned.generator] = bundle.generators[learned.direction].state_dict()
        if learned.direction in bundle.discriminators and bundle.objective == config.objective:
            found[learned.discriminator] = bundle.discriminators[learned.direction].state_dict()
    return WarmStart(url=config.start_from, networks=found, sha256=bundle.sha256)


def _differences(config: TrainConfig, bundle: Bundle, learned: LearnedDirection) -> Iterator[str]:
    if learned.direction in bundle.generators:
        yield from _compare("generator", bundle.generator_configs[learned.direction], learned.generator_config)
    if learned.direction in bundle.discriminators and bundle.objective == config.objective:
        discriminator_config = bundle.discriminator_configs[learned.direction]
        yield from _compare("discriminator", discriminator_config, learned.discriminator_config)


def _compare(
    name: str, theirs: GeneratorConfig | DiscriminatorConfig, ours: GeneratorConfig | DiscriminatorConfig
) -> Iterator[str]:
    for field, there, here in differences(dataclasses.asdict(theirs), dataclasses.asdict(ours)):
        # Dropout changes no parameter name and no weight, so a file of the published code does not record it.
        if field == "dropout" and isinstance(ours, GeneratorConfig) and ours.kind == "unet":
            continue
        yield f"{name}.{field} is {there} there and {here} here"
