"""Learning rate schedule: changes over a run, and with the batch size."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import UserError, check_range

_ONLY_OF_KIND = {"step": ("step_epochs", "gamma"), "plateau": ("plateau_factor", "patience", "threshold")}


@dataclass(frozen=True, kw_only=True)
class LearningRateSchedule:
    """Schedule of the learning rate over a run. The defaults are those of the published code."""

    kind: Literal["linear", "step", "cosine", "constant", "plateau"] = "linear"
    """linear is constant for `epochs`, then falls to zero over `decay_epochs`, as published. The other kinds ignore
    this division: step falls by `gamma` every `step_epochs`; cosine falls to zero over all epochs; plateau falls
    whenever the reconstruction loss of an epoch (pix2pix: g_l1; cyclegan: both cycles) has not improved for more than
    `patience` epochs."""

    by: Literal["epochs", "steps"] = "epochs"
    """Unit of progress of linear and cosine: they change with each epoch, as published, or with each step. At an
    epoch's first step both agree. A run of few, long epochs should use steps."""

    step_epochs: int = 50
    """step: epochs from one fall to the next."""

    gamma: float = 0.1
    """step: factor of each fall."""

    plateau_factor: float = 0.2
    """plateau: factor of each fall."""

    patience: int = 5
    """plateau: epochs in a row without improvement that are tolerated; the next one makes the rate fall."""

    threshold: float = 0.01
    """plateau: an epoch counts as better where its loss is below the best by more than this share of it."""

    warmup_steps: int = 0
    """Steps in which the rate rises linearly to its full value. Adam's first moments are noisy, and large batches, with
    their higher rates, suffer most from this noise; batches of 1 need no warmup."""

    batch_rule: Literal["none", "linear", "sqrt"] = "none"
    """Multiply the rate by global_batch / reference_batch (linear), or by its square root (sqrt), which fits Adam's
    noise. The default is none, since the published recipes have batches of 1."""

    reference_batch: int = 1
    """Global batch size that learning_rate was chosen for."""

    def __post_init__(self) -> None:
        for name, least in (
            ("step_epochs", 1), ("patience", 0), ("warmup_steps", 0), ("reference_batch", 1),
        ):  # fmt: skip
            check_range(f"schedule.{name}", getattr(self, name), least=least)
        for name in ("gamma", "plateau_factor"):
            check_range(f"schedule.{name}", getattr(self, name), above=0, below=1)
        check_range("schedule.threshold", self.threshold, least=0, below=1)
        self._check_of_kind()

    def _check_of_kind(self) -> None:
        kinds = {name: kind for kind, names in _ONLY_OF_KIND.items() for name in names}
        for item in dataclasses.fields(self):
            value, kind = getattr(self, item.name), kinds.get(item.name, self.kind)
            if kind != self.kind and value != item.default:
                raise UserError(
                    f"schedule.{item.name} is {value}: a {self.kind} schedule has no such thing; "
                    f"leave it out, or set schedule.kind to {kind}"
                )
        if self.reference_batch != 1 and self.batch_rule == "none":
            raise UserError(
                f"schedule.reference_batch is {self.reference_batch} without a rule to use it; "
                "set schedule.batch_rule to sqrt or linear, or leave it out"
            )
