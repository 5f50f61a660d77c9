"""Prices, as options."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pipeline.errors import check_range


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Prices in any currency, by which plan and report give the cost; what has none is left out, and said to be."""

    device_hour: float | None = None
    """Price of one device for an hour: a GPU, or a CPU node that translates."""
    put_thousand: float | None = None
    """Price of a thousand requests that write or list."""
    get_thousand: float | None = None
    """Price of a thousand requests that read."""
    gb_month: float | None = None
    """Price of keeping a GB (10⁹ bytes) of the output for a month."""
    gb_out: float | None = None
    """Price of a GB that leaves the input's store."""

    def __post_init__(self) -> None:
        for each in fields(self):
            check_range(f"prices.{each.name}", getattr(self, each.name), least=0)

    @property
    def are_given(self) -> bool:
        """Return True where there is any price."""
        return any(value is not None for value in vars(self).values())


NO_PRICES = Prices()
