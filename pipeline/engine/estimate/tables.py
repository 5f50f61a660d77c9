"""Forecast and outcome as rows of text, for a terminal of 80 columns and for a report; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pipeline.engine.estimate.amounts import Amounts, costs
from pipeline.engine.estimate.forecast import Forecast
from pipeline.engine.estimate.outcome import Came
from pipeline.engine.estimate.prices import Prices
from pipeline.engine.estimate.requests import requests_of_quarantined
from pipeline.engine.executors.progress import duration

NOT_KNOWN = "not known"
_HINT = "add --sample 32"


class Rows(NamedTuple):
    """Rows of text; those of the head name the columns."""

    head: Sequence[str]
    body: Sequence[Sequence[str]]
    note: str = ""
    """Line below them."""
    amounts: int = 0
    """Number of the column before which those with amounts end; the first one has names."""


def size_text(count: float) -> str:
    """Return a number of bytes in the unit that suits it, by powers of ten."""
    for unit, per in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= per * 0.9995:
            return f"{_three(count / per)} {unit}"
    return f"{_three(count)} B"


def _three(value: float) -> str:
    """Return a number with three places that count, or as many as it has before the point."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


def inputs_rows(forecast: Forecast) -> Rows | None:
    """Return a row for each format of the inputs; None where nobody looked."""
    if forecast.looked is None or not forecast.inputs:
        return None
    body = []
    for each in forecast.inputs:
        about = "" if each.counted else "≈ "
        sides = [NOT_KNOWN if side is None else f"{side[0]} × {side[1]}" for side in (each.median, each.largest)]
        body.append([each.format, f"{about}{each.images:,}", f"{about}{size_text(each.size)}", *sides])
    seen, of = len(forecast.looked.headers), forecast.looked.of
    note = f"sizes in pixels, of {seen:,} of {of:,} images, drawn at random"
    if not forecast.inputs[0].counted:
        note = f"formats and {note}"
    if not seen:
        note = "no header was read: row groups of more than 32 MB are not read for a plan"
    elif seen == of:
        note = "sizes in pixels, of all images"
    if silent := sum(not header.width for header in forecast.looked.headers):
        note += f"; {silent} do not say their size, or cannot be read"
    return Rows(["format", "images", "size", "median", "largest"], body, note, 5)


def forecast_rows(forecast: Forecast, prices: Prices) -> Rows:
    """Return what is expected: each row an amount, and what says so or what to do to know it."""
    amounts, sampled = forecast.expected.amounts, forecast.sampled
    body = [["reads", size_text(amounts.bytes_in or 0), ""]]
    translated = forecast.basis if sampled else ""
    if amounts.bytes_out is None:
        body.append(["writes", NOT_KNOWN, _HINT])
    else:
        body.append(
            ["writes", f"{size_text(amounts.bytes_out)} ± {max(0.01, forecast.expected.error):.0%}", translated]
        )
    if bad := sum(each.quarantined for each in sampled):
        tried = sum(each.rows for each in sampled)
        body.append(["quarantined", f"about {bad / tried:.0%}", f"{bad} of {tried} that were tried out"])
    devices = f"{amounts.devices} device{'s' if amounts.devices > 1 else ''}"
    if amounts.device_s is None:
        body.append(["device hours", NOT_KNOWN, f"{_HINT}, or --images_per_s"])
    else:
        body.append(["device hours", hours_text(amounts.device_s), forecast.basis])
        body.append(["wall time", duration(amounts.wall_s or 0.0), f"{devices}, without its start"])
    body += [["requests", *_requests(forecast)], *_more_requests(forecast)]
    body += [
        [f"cost: {name}", NOT_KNOWN if cost is None else _price(cost), ""] for name, cost in _priced(amounts, prices)
    ]
    return Rows(["", "", ""], body, amounts=2)


def _requests(forecast: Forecast) -> tuple[str, str]:
    amounts = forecast.expected.amounts
    if not forecast.reads_s3 and not forecast.writes_s3:
        return "none", "nothing is on S3"
    where = " and ".join(n for n, on in (("input", forecast.reads_s3), ("output", forecast.writes_s3)) if on)
    return f"{amounts.put:,} write or list, {amounts.get:,} read", f"{where} on S3"


def _more_requests(forecast: Forecast) -> list[list[str]]:
    """Return a row for what quarantined inputs would take, which nobody can foresee; none where nothing is on S3."""
    most = requests_of_quarantined(
        forecast.expected.amounts.units, reads_s3=forecast.reads_s3, writes_s3=forecast.writes_s3
    )
    if not sum(most):
        return []
    return [["", f"up to {most.put:,} and {most.get:,} more", "if all units have quarantined inputs"]]


def _priced(amounts: Amounts, prices: Prices) -> list[tuple[str, float | None]]:
    """Return the costs, and their sum without what is paid every month."""
    found = costs(amounts, prices)
    once = [cost for name, cost in found.items() if name != "storage a month"]
    if len(once) > 1:
        found["once, together"] = None if None in once else sum(cost for cost in once if cost is not None)
    return list(found.items())


def hours_text(seconds: float) -> str:
    """Return a number of seconds as hours, with three places that count; less than 4 s are not worth a number."""
    hours = seconds / 3600
    return f"{hours:.3g}" if hours >= 0.001 or not hours else "< 0.001"


def _price(cost: float) -> str:
    return f"{cost:,.2f}" if cost >= 0.995 or not cost else f"{cost:.2g}"


def outcome_rows(came: Came, prices: Prices) -> Rows:
    """Return what a plan expected beside what came, and by how much that differs."""
    expected, was = came.expected, came.was
    body = [
        _compared("units", expected.units, was.units, "{:,}".format),
        _compared("written", expected.bytes_out, was.bytes_out, size_text),
        _compared("device hours", expected.device_s, was.device_s, hours_text),
        _compared("wall time", expected.wall_s, was.wall_s, duration),
    ]
    if expected.put or expected.get:
        body.append(_compared("requests: write or list", expected.put, was.put, "{:,}".format))
        body.append(_compared("requests: read", expected.get, was.get, "{:,}".format))
    then, now = dict(_priced(expected, prices)), dict(_priced(was, prices))
    body += [_compared(f"cost: {name}", then[name], now[name], _price) for name in now]
    reached = NOT_KNOWN if came.goodput is None else f"{came.goodput:.1%}"
    body.append(["goodput", "", reached, came.dense if came.goodput is None else f"of {came.dense}"])
    notes = list[str]()
    if (expected.put or expected.get) and came.units_counted not in (None, expected.units):
        notes.append(f"requests are those of this run, which made {came.units_counted:,} of {expected.units:,} units")
    if (expected.put or expected.get) and came.units_quarantined:
        notes.append(_quarantined_requests(came.units_quarantined))
    return Rows(["", "expected", "was", ""], body, "; ".join(notes), 3)


def _quarantined_requests(units: int) -> str:
    most = sum(requests_of_quarantined(units, reads_s3=True, writes_s3=True))
    some = f"{units:,} units with" if units > 1 else "a unit with"
    return f"{some} quarantined inputs took up to {most:,} requests that were not expected"


def _compared(name: str, expected: float | None, was: float | None, text) -> list[str]:  # type: ignore[no-untyped-def]
    shown = [NOT_KNOWN if value is None else text(value) for value in (expected, was)]
    by = "" if not expected or was is None or expected == was else f"{was / expected - 1:+.0%}"
    return [name, *shown, by]
