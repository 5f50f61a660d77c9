"""How many bad images a job bears before it stops. A pure judgement over counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import check_range


class BudgetExceededError(Exception):
    """More of the inputs are bad than the job may bear."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The error budget: a share and a count, whichever is exceeded first, judged after a minimum of rows."""

    COMMON = ("share", "count")  # what --help shows

    share: float = 0.01
    """Largest share of quarantined rows, 0 to 1."""
    count: int | None = None
    """Largest number of quarantined rows; no such limit by default."""
    after_rows: int = 1000
    """The share is one of so many rows at least, so that a few bad ones among the first do not stop a job. A smaller
    output bears as many bad ones as one of this size, but not that none is good."""
    on_budget: Literal["stop", "finish"] = "stop"
    """Stop at once (the same command goes on from there), or finish; the exit code is 3 either way."""

    def __post_init__(self) -> None:
        check_range("budget.share", self.share, least=0, most=1)


def exceeded(budget: Budget, *, inputs: int, quarantined: int, final: bool = False) -> bool:
    """Whether so many quarantined rows of so many inputs are too many. `final` says that no more inputs will come."""
    if budget.count is not None and quarantined > budget.count:
        return True
    if final and 0 < quarantined == inputs and budget.share < 1:
        return True
    return quarantined > budget.share * max(inputs, budget.after_rows)
