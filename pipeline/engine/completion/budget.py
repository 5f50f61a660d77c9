"""Error budget of a job: how many bad images are acceptable. A pure judgement over counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import check_range


class BudgetExceededError(Exception):
    """More bad inputs than the error budget allows."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Error budget: a share and a count, whichever is exceeded first, judged after a minimum of rows."""

    COMMON = ("share", "count")  # what --help shows

    share: float = 0.01
    """Largest share of quarantined rows, 0 to 1."""
    count: int | None = None
    """Largest number of quarantined rows; no such limit by default."""
    after_rows: int = 1000
    """Smallest number of rows that the share applies to, so that a few bad ones among the first do not stop a job. A
    smaller output may have as many bad rows as one of this size, but not only bad ones."""
    on_budget: Literal["stop", "finish"] = "stop"
    """Stop at once (the same command goes on from there), or finish; the exit code is 3 either way."""

    def __post_init__(self) -> None:
        check_range("budget.share", self.share, least=0, most=1)


def exceeded(budget: Budget, *, inputs: int, quarantined: int, final: bool = False) -> bool:
    """Return True where too many of `inputs` rows are quarantined. `final` means that no more inputs will come."""
    if budget.count is not None and quarantined > budget.count:
        return True
    if final and 0 < quarantined == inputs and budget.share < 1:
        return True
    return quarantined > budget.share * max(inputs, budget.after_rows)
