"""One rank's networks and optimisers, and what a global batch does to them.

What is notable here:
- The loss of a rank is weighted by its share of samples, so that DDP's mean over ranks is the mean over the global
  batch. A rank without a sample computes a black one with weight 0.
- Networks are wrapped one by one. `find_unused_parameters` is on, not because any is unused, but because it keeps
  DDP from rebuilding its buckets after the first step: a resumed run would sum in another order than one that went
  through, and end with other bits. `forward_sync_buffers` is off: a batch norm that is used twice before one backward
  does not bear it.
- The image pools are alike on every rank: each sees the translations of all ranks, in the order of the global batch.
- Nothing random is kept from step to step. Dropout's generator is seeded anew from (seed, step, rank), so there is no
  random state to save, and a step can be repeated by itself.
- Nor is a scheduler: the learning rate is a function of the epoch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Adam, Optimizer

from gan_models import CycleGAN, CycleGANConfig, Pix2Pix, Pix2PixConfig, pool_decisions
from gan_models.objective import Domain, Replay
from pipeline.config.train import TrainConfig
from pipeline.training.group import Group
from pipeline.training.order import shares, step_seed


class Replica:
    """A model in training, alike on every rank."""

    def __init__(self, config: TrainConfig, group: Group, device: torch.device, precision: str) -> None:
        self.config, self.group, self.device = config, group, device
        self.memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self.objective = build_objective(config.model(), config.seed)
        for network in self.objective.networks.values():
            network.to(device=device, memory_format=self.memory_format)  # type: ignore[call-overload]
        self.optimizers: dict[Literal["generators", "discriminators"], Adam] = {
            "generators": self._adam(self.objective.generator_names),
            "discriminators": self._adam(self.objective.discriminator_names),
        }
        self._autocast = _autocast(device, precision)
        self._wrap_networks()

    def step(
        self, real_a: Tensor, real_b: Tensor, *, step: int, samples: int, learning_rate: float
    ) -> dict[str, Tensor]:
        """Train on this rank's part of the global batch of `step`, which has `samples` samples over all ranks.

        real_a and real_b are [n, C, H, W] in [-1, 1]. Returns the losses of this rank, weighted so that their sum over
        ranks is the mean over the global batch, as 0-dim tensors.
        """
        parts = shares(samples, self.group.workers)
        mine = parts[self.group.rank]
        weight = (mine.stop - mine.start) / samples
        torch.manual_seed(step_seed(self.config.seed, step, self.group.rank))
        for optimizer in self.optimizers.values():
            for parameters in optimizer.param_groups:
                parameters["lr"] = learning_rate

        def update(loss: Tensor, optimizer: Optimizer) -> None:
            optimizer.zero_grad(set_to_none=True)
            (loss * (weight * self.group.workers)).backward()
            optimizer.step()

        losses = self.objective.step(
            real_a,
            real_b,
            optimizers=self.optimizers,
            update=update,
            autocast=self._autocast,
            replay=self._replay(parts) if self.group.workers > 1 else None,
        )
        return {name: loss * weight for name, loss in losses.items()}

    def is_finite(self) -> bool:
        """Whether every weight is a number still; the same on every rank."""
        parameters = self.objective.parameters(self.objective.networks)
        return bool(torch.stack([parameter.detach().isfinite().all() for parameter in parameters]).all())

    def state(self) -> dict[str, Mapping[str, Any]]:
        """The parts of a checkpoint."""
        return {
            "networks": {name: network.state_dict() for name, network in self.objective.networks.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "objective": self.objective.state_dict(),
        }

    def load_state(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Go on from the parts of a checkpoint."""
        for name, network in self.objective.networks.items():
            network.load_state_dict(state["networks"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(dict(state["optimizers"][name]))
        self.objective.load_state_dict(state["objective"])
        for pool in self.objective.pools.values():
            if pool.images is not None:
                pool.images = pool.images.to(self.device)

    def _adam(self, names: tuple[str, ...]) -> Adam:
        return Adam(self.objective.parameters(names), lr=self.config.learning_rate, betas=self.config.betas, fused=True)

    def _wrap_networks(self) -> None:
        for name, network in self.objective.networks.items():
            if self.config.compile:
                network.compile()
            if self.group.workers > 1:
                self.objective.forward[name] = DistributedDataParallel(
                    network, find_unused_parameters=True, forward_sync_buffers=False
                )

    def _replay(self, parts: list[slice]) -> Replay:
        """What the discriminators see for this rank's translations, by pools that have seen those of every rank."""

        def replay(domain: Domain, fakes_nCHW: Tensor) -> Tensor:
            mine = parts[self.group.rank]
            objective, pool = self.objective, self.objective.pools[domain]
            fakes_NCHW = self.group.gather_samples(fakes_nCHW.detach()[: mine.stop - mine.start], parts)
            decisions = pool_decisions(objective.pool_seed, objective.steps, domain, len(fakes_NCHW), pool.size)
            seen_nCHW = pool.query(fakes_NCHW, decisions)[mine]
            return seen_nCHW if len(seen_nCHW) else fakes_nCHW.detach()

        return replay


def build_objective(config: Pix2PixConfig | CycleGANConfig, seed: int) -> Pix2Pix | CycleGAN:
    """Untrained networks: the same weights for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(config, Pix2PixConfig):
        return Pix2Pix(config, generator=generator, pool_seed=seed)
    return CycleGAN(config, generator=generator, pool_seed=seed)


def _autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[Any]]:
    if precision == "bf16":
        return functools.partial(torch.autocast, device.type, dtype=torch.bfloat16)
    return nullcontext
