"""How a training run is measured on images that it does not learn from, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import UserError, check_range

METRICS = ("kid", "l1", "ssim", "cycle_l1", "kid_back", "cycle_l1_back")
"""`kid` stands for KID by whatever features are there; `_back` is CycleGAN's other direction."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Validation as training goes on. It changes no bit of what is learnt."""

    COMMON = ("input",)  # what --help shows

    input: str = ""
    """Store of held-out images, laid out like the training store; empty is no validation."""

    every: int = 1000
    """Steps from one validation to the next; each also writes a line of metrics and a checkpoint."""

    images: int = 100
    """The first this many images of the store, the same each time."""

    metric: str = ""
    """What the best checkpoint is chosen by: kid, l1, ssim, cycle_l1; by default kid, or what there is without it."""

    patience: int | None = None
    """End after this many validations in a row without a better one; by default train to the last step."""

    where: Literal["auto", "inline", "beside"] = "auto"
    """inline: training waits while it is measured. beside: another process measures a copy of the generators while
    training goes on, which waits only for a number that may end it; that process holds a CPU (and a GPU, where training
    is on GPUs) for the whole run, and the numbers come some steps later. auto: beside where the workers leave room."""

    def __post_init__(self) -> None:
        for name, least in (("every", 1), ("images", 2), ("patience", 1)):
            check_range(f"validation.{name}", getattr(self, name), least=least)
        if self.metric and self.metric not in METRICS:
            raise UserError(f"validation.metric is {self.metric!r}: known are {', '.join(METRICS)}")
        if self.patience is not None and not self.input:
            raise UserError("validation.patience is set, and validation.input is not: name the store to validate on")

    def due(self, step: int) -> bool:
        """Whether `step` is one after which is validated."""
        return bool(self.input) and step % self.every == 0
