"""How a training run is measured on images that it does not learn from, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import UserError, check_range
from pipeline.scores.table import BACK, METRICS, metrics_on

NAMES = (*(each.name for each in METRICS), *(each.name + BACK for each in metrics_on("sets", "cycles")))
"""Names of scores; `kid` stands for KID by whatever features are there, and `_back` for the direction from B to A."""


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
    """Metric that decides which checkpoint is best: kid, l1, psnr, ssim, cycle_l1; by default the first there is."""

    patience: int | None = None
    """End after this many validations in a row without a better one; by default train to the last step."""

    def __post_init__(self) -> None:
        for name, least in (("every", 1), ("images", 2), ("patience", 1)):
            check_range(f"validation.{name}", getattr(self, name), least=least)
        if self.metric and self.metric not in NAMES:
            raise UserError(f"validation.metric is {self.metric!r}: known are {', '.join(NAMES)}")
        if self.patience is not None and not self.input:
            raise UserError("validation.patience is set, and validation.input is not: name the store to validate on")

    def due(self, step: int) -> bool:
        """Whether `step` is one after which is validated."""
        return bool(self.input) and step % self.every == 0
