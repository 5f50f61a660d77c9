"""Amounts that a run takes, as its plan expects them and as they came; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from pipeline.engine.estimate.prices import Prices


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """What a run takes; None stands for what is not known."""

    images: int
    units: int
    bytes_in: int | None = None
    """Encoded bytes that are read, once for each part."""
    bytes_out: float | None = None
    """Bytes of data that are written, without records and quarantine."""
    device_s: float | None = None
    """Seconds that devices compute, of all of them together."""
    devices: int = 1
    wall_s: float | None = None
    """Seconds from the first unit to the last."""
    put: int | None = None
    """Requests to S3 that write or list."""
    get: int | None = None
    """Requests to S3 that read."""

    def record(self) -> dict[str, Any]:
        """Return the fields that are known, as a plan keeps them."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Amounts:
        """Invert `record`; fields of later versions are passed over."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in known})


def together(amounts: Sequence[Amounts]) -> Amounts:
    """Return the sums of at least one; what one of them does not know is not known. The most devices count."""
    summed: dict[str, Any] = {}
    for each in fields(Amounts):
        values = [getattr(one, each.name) for one in amounts]
        summed[each.name] = None if None in values else max(values) if each.name == "devices" else sum(values)
    return Amounts(**summed)


@dataclass(frozen=True, kw_only=True)
class Share:
    """Rows of one part that are planned, and what one of them takes on average; None where that is not known."""

    rows: int
    units: int
    bytes_in: int
    device_s: float | None = None
    beside_s: float | None = None
    """Seconds of one core for reading, decoding and encoding."""
    row_bytes: float | None = None
    """Bytes that are written for a row, beside those of its unit."""
    unit_bytes: float = 0.0
    """Bytes that are written for a unit, however many rows it has."""
    error: float = 0.0
    """Standard error of `row_bytes`, in bytes."""


class Expected(NamedTuple):
    """Expectation, and how far the bytes that are written may be off."""

    amounts: Amounts
    error: float
    """Two standard errors of the bytes that are written, as a share of them."""


def expected(
    shares: Sequence[Share], *, images: int, devices: int, cores: int | None, requests: tuple[int, int] | None
) -> Expected:
    """Return what so many `images` take that are planned as these `shares`.

    The devices wait for reading, decoding and encoding where these take their own `cores` (of each device); None where
    other cores do that beside them.
    """
    out = _sum(None if s.row_bytes is None else s.rows * s.row_bytes + s.units * s.unit_bytes for s in shares)
    device_s = _sum(None if s.device_s is None else s.rows * s.device_s for s in shares)
    beside_s = _sum(None if s.beside_s is None else s.rows * s.beside_s for s in shares)
    wall_s = None if device_s is None else device_s / devices
    if wall_s is not None and cores is not None and beside_s is not None:
        wall_s += beside_s / (cores * devices)
    error = math.sqrt(sum((s.rows * s.error) ** 2 for s in shares))
    amounts = Amounts(
        images=images,
        units=sum(s.units for s in shares),
        bytes_in=sum(s.bytes_in for s in shares),
        bytes_out=out,
        device_s=device_s,
        devices=devices,
        wall_s=wall_s,
        put=requests[0] if requests else None,
        get=requests[1] if requests else None,
    )
    return Expected(amounts, 2 * error / out if out else 0.0)


def _sum(values: Iterable[float | None]) -> float | None:
    """Return the sum, or None where one is not known."""
    found = list(values)
    return None if any(value is None for value in found) else sum(value for value in found if value is not None)


def costs(amounts: Amounts, prices: Prices) -> dict[str, float | None]:
    """Return the cost of each thing that has a price; None where its amount is not known.

    Devices are paid from the first unit to the last; without that time, for the seconds that they compute.
    """
    time_s = amounts.device_s if amounts.wall_s is None else amounts.wall_s * amounts.devices
    priced = {
        "devices": (time_s, prices.device_hour, 3600),
        "requests that write": (amounts.put, prices.put_thousand, 1000),
        "requests that read": (amounts.get, prices.get_thousand, 1000),
        "reading": (amounts.bytes_in, prices.gb_out, 1e9),
        "storage a month": (amounts.bytes_out, prices.gb_month, 1e9),
    }
    return {
        name: None if amount is None else amount / per * price
        for name, (amount, price, per) in priced.items()
        if price is not None
    }


def at_work_s(spans: Iterable[tuple[float, float]]) -> float:
    """Return the seconds in which at least one of these spans, each from a start to an end, was going on."""
    total, until = 0.0, -math.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def goodput(ideal_s: float | None, amounts: Amounts) -> float | None:
    """Return the share of the devices' dense rate that went into images, from the first unit to the last.

    `ideal_s` are the seconds that the images' arithmetic would take one device at its dense rate; None where that is
    not known.
    """
    if ideal_s is None or not amounts.wall_s:
        return None
    return ideal_s / (amounts.wall_s * amounts.devices)
