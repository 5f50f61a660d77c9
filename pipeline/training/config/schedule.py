"""How the learning rate changes over a run, and with the batch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import UserError, check_range

_ONLY_OF_KIND = {"step": ("step_epochs", "gamma"), "plateau": ("plateau_factor", "patience", "threshold")}


@dataclass(frozen=True, kw_only=True)
class LearningRateSchedule:
    """The learning rate over a run. The defaults are those of the published code."""

    kind: Literal["linear", "step", "cosine", "constant", "plateau"] = "linear"
    """linear: constant for `epochs`, then down to zero over `decay_epochs`, as published. The others know no such
    parts: step falls by `gamma` every `step_epochs`, cosine to zero over all epochs, plateau whenever the
    reconstruction loss of an epoch (pix2pix: g_l1; cyclegan: both cycles) has not become better for a while."""

    by: Literal["epochs", "steps"] = "epochs"
    """linear and cosine change with each epoch, as published, or with each step; at an epoch's first step both agree.
    A run of few, long epochs wants steps."""

    step_epochs: int = 50
    """step: epochs from one fall to the next."""

    gamma: float = 0.1
    """step: what a fall multiplies the rate with."""

    plateau_factor: float = 0.2
    """plateau: what a fall multiplies the rate with."""

    patience: int = 5
    """plateau: epochs in a row that may be no better; the one after them makes the rate fall."""

    threshold: float = 0.01
    """plateau: an epoch is better where its loss is below the best by more than this share of it."""

    warmup_steps: int = 0
    """Steps in which the rate rises in a straight line to its full value. Adam's first moments are noisy, and large
    batches, with their higher rates, suffer most from them; batches of 1 need none."""

    batch_rule: Literal["none", "linear", "sqrt"] = "none"
    """Multiply the rate by global_batch / reference_batch, or by its root, which is what Adam's noise asks for. none,
    since the published recipes have batches of 1."""

    reference_batch: int = 1
    """The global batch that learning_rate was chosen for."""

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
