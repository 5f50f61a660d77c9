"""First weights from a model bundle, a run's own or one imported from the published code.

The weights are those that were trained, not their moving average, where a bundle has both: the discriminators have
judged those, and steps of the old size would soon lose what the average has smoothed.
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
    """What a run begins with."""

    url: str
    networks: Mapping[str, Mapping[str, Tensor]]
    """The state_dict of each network that the bundle has; the others begin at random."""
    sha256: str
    """Of the weights and architectures of the bundle's generators, without moving averages."""

    @property
    def identity(self) -> dict[str, Any]:
        """What of it belongs to the run's recipe: not where it lies."""
        return {"sha256": self.sha256, "networks": sorted(self.networks)}

    def __str__(self) -> str:
        return f"{', '.join(self.networks)} of {self.url} (sha256 {self.sha256[:16]}…)"


def read(config: TrainConfig) -> WarmStart:
    """The networks of the bundle at `config.start_from` that the run has, too.

    Generators are matched by direction; CycleGAN takes both where both are there. Discriminators are taken from a
    bundle of the same objective only: another objective's judge something else. Raises UserError of one line where
    there is no bundle, none of its directions is learnt, or an architecture differs (a U-Net's dropout may).
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
        judge = bundle.discriminator_configs[learned.direction]
        yield from _compare("discriminator", judge, learned.discriminator_config)


def _compare(
    name: str, theirs: GeneratorConfig | DiscriminatorConfig, ours: GeneratorConfig | DiscriminatorConfig
) -> Iterator[str]:
    for field, there, here in differences(dataclasses.asdict(theirs), dataclasses.asdict(ours)):
        # It shifts no name and leaves no trace in the weights: a file of the published code does not say it.
        if field == "dropout" and isinstance(ours, GeneratorConfig) and ours.kind == "unet":
            continue
        yield f"{name}.{field} is {there} there and {here} here"
