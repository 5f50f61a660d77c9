"""Validation of a training run: measurements on images that it does not learn from, and what they decide."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import UserError, check_range
from pipeline.scores.table import BACK, metrics_in_validation

NAMES = (
    *(each.name for each in metrics_in_validation()),
    *(each.name + BACK for each in metrics_in_validation("sets", "cycles")),
)
"""Names of scores. `kid` stands for KID with any features, and `_back` for the direction from B to A."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Validation during training. It changes no bit of what is learnt."""

    COMMON = ("input",)  # what --help shows

    input: str = ""
    """Store of held-out images, laid out like the training store; empty for no validation."""

    every: int = 1000
    """Steps from one validation to the next; each also writes a line of metrics and a checkpoint."""

    images: int = 100
    """Number of images to validate on: the first ones of the store, the same each time."""

    metric: str = ""
    """Metric that chooses the best checkpoint: kid, l1, psnr, ssim or cycle_l1; by default the first one measured."""

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
        """Return True where a validation is due after `step`."""
        return bool(self.input) and step % self.every == 0
