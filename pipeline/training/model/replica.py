"""Networks and optimisers of one rank, and what they do with a global batch.

Design notes:
- Each rank weights its loss by its share of the samples, so that DDP's mean over ranks is the mean over the global
  batch. A rank without a sample computes a black one with weight 0.
- Networks are wrapped one by one. `find_unused_parameters` is on although no parameter is unused, because it keeps DDP
  from rebuilding its buckets after the first step. With rebuilt buckets, a resumed run would sum in another order than
  an uninterrupted one, and end with other bits. The cost is a walk through each graph and one more small reduction: 1
  to 2 ms in the step of a network (gloo, 2 processes), which is 3% of a step of 50 ms and not measurable in a step of
  one second. `forward_sync_buffers` is off: a batch norm that is used twice before one backward fails with it.
- The image pools are the same on every rank: each sees the translations of all ranks, in the order of the global batch.
- No random state is kept from step to step. Dropout's generator is seeded anew from (seed, step, rank), so there is no
  random state to save, and any step can be repeated by itself.
- No scheduler is kept either. The learning rate is a function of the step and, under a plateau schedule, of the epochs'
  losses, which are kept.
- Each rank sums its micro-batches, and DDP reduces with the last of them: once for each optimiser step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Adam, Optimizer

from gan_models import Objective, pool_decisions, train_winograd_trunk
from gan_models.objective import Domain, Losses, Replay
from pipeline.models.arithmetic import Trunk
from pipeline.models.ends import with_fast_ends
from pipeline.training.config.execution import execution_of
from pipeline.training.config.train import TrainConfig
from pipeline.training.data.context import Context
from pipeline.training.data.order import shares, step_seed
from pipeline.training.model import average, rate
from pipeline.training.model.captured import CapturedStep
from pipeline.training.model.freezing import freeze


class Replica:
    """Model in training; the same on every rank."""

    averages: average.Average
    """Moving average of the generators' weights, by network; empty without `ema`."""

    def __init__(self, context: Context, precision: str, trunk: Trunk = "direct") -> None:
        """Raise ValueError where `freeze` names something that does not exist."""
        config, device = context.config, context.device
        self.config, self.group, self.device = config, context.group, device
        execution = execution_of(config, device, precision=precision, steps=context.total_steps)
        self.memory_format = execution.memory_format
        self.objective = build_objective(config)
        for network in self.objective.networks.values():
            network.to(device=device, memory_format=self.memory_format)  # type: ignore[call-overload]
        if trunk == "winograd":
            for network in self._generators().values():
                train_winograd_trunk(network)
        if device.type == "cuda":
            for network in self._generators().values():
                with_fast_ends(network, trains=True)
        freeze(self.objective.networks, config.freeze)
        self.optimizers: dict[Literal["generators", "discriminators"], Adam] = {
            "generators": self._adam(self.objective.generator_names),
            "discriminators": self._adam(self.objective.discriminator_names),
        }
        # One for each optimiser: an overflow in one does not change the other's scale. Both are no-ops except in fp16.
        self._scalers = {
            name: torch.amp.GradScaler(device.type, enabled=precision == "fp16") for name in self.optimizers
        }
        self._epoch_losses = rate.EpochLosses(context.order.steps_per_epoch, device)
        self._autocast = autocast(device, precision)
        self._wrap_networks(compiled=execution.compile)
        self._begin_average()
        self._captured = (
            CapturedStep(self.objective, self._compute, config.global_batch) if execution.cuda_graphs else None
        )

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of `step`, which is done or the next one."""
        return rate.learning_rate(self.config, step, self._epoch_losses.steps_per_epoch, self._epoch_losses)

    def step(self, real_a: Tensor, real_b: Tensor, *, step: int, samples: int) -> dict[str, Tensor]:
        """Train on this rank's part of the global batch of `step`, which has `samples` samples over all ranks.

        real_a and real_b are [n, C, H, W] in [-1, 1]. Returns this rank's losses as 0-dim tensors, weighted so that
        their sum over ranks is the mean over the global batch.
        """
        parts = shares(samples, self.group.workers)
        mine = parts[self.group.rank]
        weight = (mine.stop - mine.start) / samples
        torch.manual_seed(step_seed(self.config.seed, step, self.group.rank))
        for optimizer in self.optimizers.values():
            for parameters in optimizer.param_groups:
                self._set_rate(parameters, self.learning_rate(step))

        if self._captured is not None:
            losses = self._captured(real_a, real_b)
        else:
            losses = self._compute(
                real_a,
                real_b,
                self._replay(parts) if self.group.workers > 1 else None,
                weight=weight * self.group.workers,
            )
        weighted = {name: loss * weight for name, loss in losses.items()}
        if self.config.schedule.kind == "plateau":
            global_loss = self.group.sum(rate.reconstruction_loss(weighted).double())
            self._epoch_losses.add(step, samples, global_loss)
        if self.averages:
            average.update(self.averages, self._generators(), decay=self.config.ema, steps=step + 1)
        return weighted

    def _compute(
        self, real_a: Tensor, real_b: Tensor, replay: Replay | None, *, weight: float = 1.0
    ) -> dict[str, Tensor]:
        return self.objective.step(
            real_a,
            real_b,
            optimizers=self.optimizers,
            update=functools.partial(self._update, weight=weight),
            autocast=self._autocast,
            replay=replay,
            accumulate=self.config.accumulate,
        )

    def is_finite(self) -> bool:
        """Return True where every weight is still finite; the same on every rank."""
        parameters = self.objective.parameters(self.objective.networks)
        return bool(torch.stack([parameter.detach().isfinite().all() for parameter in parameters]).all())

    def state(self) -> dict[str, Mapping[str, Any]]:
        """Return the parts of a checkpoint."""
        parts: dict[str, Mapping[str, Any]] = {
            "networks": {name: network.state_dict() for name, network in self.objective.networks.items()},
            "optimizers": {name: _optimizer_state(optimizer) for name, optimizer in self.optimizers.items()},
            "objective": self.objective.state_dict(),
        }
        if self.averages:
            parts["ema"] = self.averages
        if self.config.schedule.kind == "plateau":
            parts["plateau"] = self._epoch_losses.state_dict()
        if any(scaler.is_enabled() for scaler in self._scalers.values()):
            parts["scalers"] = {name: scaler.state_dict() for name, scaler in self._scalers.items()}
        return parts

    def load_state(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Continue from the parts of a checkpoint.

        Raises KeyError where a part that this configuration needs is missing. A scaler begins anew where the run used
        another precision before.
        """
        self.load_networks(state["networks"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(dict(state["optimizers"][name]))
            self._let_capture(optimizer)
        self.objective.load_state_dict(state["objective"])
        for pool in self.objective.pools.values():
            if pool.images is not None:
                pool.images = pool.images.to(self.device)
        for generator, tensors in self.averages.items():
            for key, tensor in tensors.items():
                tensor.copy_(state["ema"][generator][key])
        if self.config.schedule.kind == "plateau":
            self._epoch_losses.load_state_dict(state["plateau"])
        for key, scaler in self._scalers.items():
            if scaler.is_enabled() and "scalers" in state:
                scaler.load_state_dict(dict(state["scalers"][key]))

    def load_networks(self, states: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Load the weights of the networks named in `states`; the moving average begins with them."""
        for name, tensors in states.items():
            self.objective.networks[name].load_state_dict(tensors)
        self._begin_average()

    def _begin_average(self) -> None:
        self.averages = average.begin(self._generators()) if self.config.ema else {}

    def _generators(self) -> dict[str, nn.Module]:
        return {name: self.objective.networks[name] for name in self.objective.generator_names}

    def _adam(self, names: tuple[str, ...]) -> Adam:
        # Adam refuses an empty list of parameters, but takes an empty group: all may be frozen.
        learning = [p for p in self.objective.parameters(names) if p.requires_grad]
        optimizer = Adam([{"params": learning}], lr=self.config.learning_rate, betas=self.config.betas, fused=True)
        self._let_capture(optimizer)
        return optimizer

    def _let_capture(self, optimizer: Adam) -> None:
        """Keep the learning rate where a captured step finds it."""
        if self.device.type == "cuda":
            for parameters in optimizer.param_groups:
                parameters["capturable"] = True
                parameters["lr"] = torch.tensor(float(parameters["lr"]), device=self.device)

    @staticmethod
    def _set_rate(parameters: dict[str, Any], rate: float) -> None:
        if isinstance(parameters["lr"], Tensor):
            parameters["lr"].fill_(rate)
        else:
            parameters["lr"] = rate

    def _update(self, losses: Losses, optimizer: Optimizer, *, weight: float) -> None:
        """Take one step of `optimizer` down the gradient of the sum of `losses`, reduced over the ranks with the last
        one."""
        optimizer.zero_grad(set_to_none=True)
        scaler = next(self._scalers[name] for name, other in self.optimizers.items() if other is optimizer)
        learns = any(group["params"] for group in optimizer.param_groups)
        for number, compute in enumerate(losses, 1):
            with nullcontext() if number == len(losses) else self._no_sync():
                loss = compute() * weight
                if learns:
                    scaler.scale(loss).backward()
        if learns:
            scaler.step(optimizer)
            scaler.update()

    @contextmanager
    def _no_sync(self) -> Iterator[None]:
        """Let forward and backward passes in the block add to this rank's gradients only."""
        with ExitStack() as stack:
            for network in self.objective.forward.values():
                if isinstance(network, DistributedDataParallel):
                    stack.enter_context(network.no_sync())
            yield

    def _wrap_networks(self, *, compiled: bool) -> None:
        for name, network in self.objective.networks.items():
            if compiled:
                network.compile()
            # DDP refuses a network without a parameter that requires a gradient.
            if self.group.workers > 1 and any(p.requires_grad for p in network.parameters()):
                self.objective.forward[name] = DistributedDataParallel(
                    network, find_unused_parameters=True, forward_sync_buffers=False
                )

    def _replay(self, parts: list[slice]) -> Replay:
        """Return the function that picks what the discriminators see for this rank's translations.

        It uses image pools that have seen the translations of every rank.
        """

        def replay(domain: Domain, fakes_nCHW: Tensor) -> Tensor:
            mine = parts[self.group.rank]
            objective, pool = self.objective, self.objective.pools[domain]
            fakes_NCHW = self.group.gather_samples(fakes_nCHW.detach()[: mine.stop - mine.start], parts)
            decisions = pool_decisions(objective.pool_seed, objective.steps, domain, len(fakes_NCHW), pool.size)
            seen_nCHW = pool.query(fakes_NCHW, decisions)[mine]
            return seen_nCHW if len(seen_nCHW) else fakes_nCHW.detach()

        return replay


def build_objective(config: TrainConfig) -> Objective:
    """Return the objective with untrained networks; the same seed gives the same weights."""
    generator = torch.Generator().manual_seed(config.seed)
    make: Callable[..., Objective] = config.objective_type
    return make(config.model(), generator=generator, pool_seed=config.seed)


def _optimizer_state(optimizer: Adam) -> dict[str, Any]:
    """Return the optimiser's state as every device writes it."""
    state = optimizer.state_dict()
    groups = [{**group, "lr": float(group["lr"]), "capturable": False} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[Any]]:
    """Return the context of a forward pass in `precision`."""
    types = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if precision in types:
        return functools.partial(torch.autocast, device.type, dtype=types[precision])
    return nullcontext
