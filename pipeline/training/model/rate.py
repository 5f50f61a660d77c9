"""Learning rate of each step: a pure function of the configuration, the step and the epochs' losses so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gan_models import schedule as factors
from pipeline.training.config.train import TrainConfig

_RECONSTRUCTION = ("g_l1", "cycle_A", "cycle_B")


class EpochLosses:
    """Mean reconstruction loss of each epoch, over the global batches; the same on every rank."""

    history: list[tuple[int, float]]
    """Number of steps done at the end of each whole epoch, and the epoch's mean loss; the oldest first."""

    def __init__(self, steps_per_epoch: int, device: torch.device) -> None:
        self.steps_per_epoch = steps_per_epoch
        self.history = []
        # Read once an epoch, so that no step has to wait for the GPU.
        self._sum = torch.zeros((), dtype=torch.float64, device=device)
        self._samples = 0

    def add(self, step: int, samples: int, loss: Tensor) -> None:
        """Add the mean loss, 0-dim, over the `samples` samples of the global batch of `step`."""
        self._sum += samples * loss.double()
        self._samples += samples
        if (step + 1) % self.steps_per_epoch == 0:
            self.history.append((step + 1, self._sum.item() / self._samples))
            self._sum.zero_()
            self._samples = 0

    def before(self, step: int) -> list[float]:
        """Return the losses that were known before `step` was computed, no matter when this is called."""
        return [loss for done, loss in self.history if done <= step]

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint, including the unfinished epoch."""
        return {
            "history": [list(entry) for entry in self.history],
            "sum": self._sum.cpu().clone(),
            "samples": self._samples,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self.history = [(int(done), float(loss)) for done, loss in state["history"]]
        self._sum = state["sum"].to(self._sum.device, copy=True)
        self._samples = state["samples"]


def reconstruction_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """Return the reconstruction loss, 0-dim: pix2pix's L1, or the sum of CycleGAN's two cycle losses."""
    return torch.stack([losses[name] for name in _RECONSTRUCTION if name in losses]).sum()


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int, epoch_losses: EpochLosses) -> float:
    """Return the learning rate of `step`, counted from 0."""
    schedule = config.schedule
    rate = config.learning_rate * _schedule_factor(config, step, steps_per_epoch, epoch_losses)
    rate *= factors.batch_factor(schedule.batch_rule, config.global_batch, reference=schedule.reference_batch)
    return rate * factors.warmup_factor(step, warmup_steps=schedule.warmup_steps)


def _schedule_factor(config: TrainConfig, step: int, steps_per_epoch: int, epoch_losses: EpochLosses) -> float:
    schedule = config.schedule
    progress = step // steps_per_epoch if schedule.by == "epochs" else step / steps_per_epoch
    match schedule.kind:
        case "linear":
            return factors.linear_factor(progress, constant_epochs=config.epochs, decay_epochs=config.decay_epochs)
        case "step":
            return factors.step_factor(progress, step_epochs=schedule.step_epochs, gamma=schedule.gamma)
        case "cosine":
            return factors.cosine_factor(progress, epochs=config.epochs + config.decay_epochs)
        case "constant":
            return 1.0
        case "plateau":
            return factors.plateau_factor(
                epoch_losses.before(step),
                factor=schedule.plateau_factor,
                patience=schedule.patience,
                threshold=schedule.threshold,
            )
