"""Facts about a run that every part of one rank needs and that never change."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from pipeline.training.config.train import TrainConfig
from pipeline.training.data.loader import Sources
from pipeline.training.data.order import Order
from pipeline.training.distributed.group import Group


@dataclass(frozen=True, kw_only=True)
class Context:
    """Run, as one of its ranks sees it."""

    config: TrainConfig
    """Configuration with an absolute `output`, since workers run in other directories."""
    sources: Sources
    group: Group
    device: torch.device
    threads: int
    """Number of torch's threads; it changes the order of sums, and so the bits of the result."""

    @functools.cached_property
    def order(self) -> Order:
        """Order that assigns samples to steps."""
        return order_of(self.config, self.sources)

    @property
    def total_steps(self) -> int:
        """Number of steps of the whole run."""
        return self.config.total_steps(self.order.steps_per_epoch)


def order_of(config: TrainConfig, sources: Sources) -> Order:
    """Return the order of a run over these sources."""
    return Order(
        seed=config.seed,
        images_a=sources.a.images,
        images_b=sources.b.images,
        paired=config.objective_type.paired,
        global_batch=config.global_batch,
    )
