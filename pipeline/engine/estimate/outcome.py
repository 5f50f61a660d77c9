"""What a run took in the end, by its manifest, beside what its plan expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.engine.estimate.amounts import Amounts, at_work_s, goodput, together
from pipeline.engine.estimate.prices import NO_PRICES, Prices
from pipeline.engine.records.layout import VERDICTS
from pipeline.engine.records.units import Segment
from pipeline.usage import Usage

_TRANSLATOR = re.compile(r"translator=([^/]+)/")


class Counted(NamedTuple):
    """What one run used, on all machines."""

    units: int
    """Units that it made."""
    usage: Usage
    prices: Prices = NO_PRICES


Count = Callable[[], Counted]
"""Function that returns what one run has used until now."""


class Came(NamedTuple):
    """Expectation of the plan, and what came."""

    expected: Amounts
    was: Amounts
    goodput: float | None
    """Share of the devices' dense rate that went into the images; None where it is not known."""
    dense: str
    """Dense rate in words, or why the goodput is not known."""
    units_counted: int | None
    """Units of the run whose requests were counted; None where nobody counted."""
    units_quarantined: int = 0
    """Units with quarantined inputs."""


def outcome(
    segments: Sequence[Segment],
    manifest: pa.Table,
    count: Callable[[], Counted | None],
    files_size: Callable[[], int],
) -> Came | None:
    """Return what the units of these segments took, by their rows of the manifest; None where no plan expected any.

    Of labelled segments only the last is compared. `count` returns what the run that ends has used; `files_size` the
    bytes of all files of an output whose rows are files.
    """
    compared = [s for s in segments if s.expected and (not s.label or s is segments[-1])]
    if not compared or not all(s.expected for s in segments[-1:]):
        return None
    numbers = pc.list_element(pc.split_pattern(manifest["unit"], "-"), 0)
    rows = manifest.filter(pc.is_in(numbers, pa.array([f"{s.number:06d}" for s in compared])))
    planned = together([Amounts.of(s.expected) for s in compared])
    has_files = pc.any(pc.starts_with(rows["data"], VERDICTS)).as_py()
    written = (pc.sum(rows["data_size"]).as_py() or 0) + (files_size() if has_files else 0)
    counted = count()  # last, so that the listing is among them
    was = Amounts(
        images=planned.images,
        units=len(rows),
        bytes_in=planned.bytes_in,
        bytes_out=written,
        device_s=pc.sum(rows["device_s"]).as_py(),
        devices=planned.devices,
        wall_s=at_work_s(zip(rows["started"].to_pylist(), rows["ended"].to_pylist(), strict=True)),
        put=counted.usage.put if counted else None,
        get=counted.usage.get if counted else None,
    )
    ideal_s, dense = _ideal_s(compared, rows)
    units = counted.units if counted else None
    with_quarantined = pc.sum(pc.greater(rows["quarantined"], 0)).as_py() or 0
    return Came(planned, was, goodput(ideal_s, was), dense, units, with_quarantined)


def _ideal_s(segments: Sequence[Segment], rows: pa.Table) -> tuple[float | None, str]:
    """Return the seconds that the images' arithmetic takes at the dense rate, and that rate or why it is not known."""
    of_segment = {segment.number: segment for segment in segments}
    ideal_s, rates = 0.0, dict[float, str]()
    for row in rows.select(["unit", "data", "device_s", "flop"]).to_pylist():
        if not row["device_s"]:
            continue  # nothing was translated, or no image of it was wanted
        if not row["flop"]:
            return None, "a program does not say its arithmetic"
        segment, name = of_segment[int(row["unit"].split("-")[0])], _TRANSLATOR.search(row["data"])
        measured = _figures(segment.measured, name[1] if name else "")
        if len(measured) > 1:
            return None, "not told apart for the models of a chain"
        if not measured or not (rate := measured[0].get("dense_rate", 0.0)):
            return None, "the dense rate was not measured"
        ideal_s += row["flop"] / rate
        rates[rate] = f"{rate / 1e12:.3g} TFLOP/s"
    if not rates:
        return None, "no device computed"
    return ideal_s, " and ".join(rates.values())


def _figures(measured: Mapping[str, Any], translator: str) -> list[Mapping[str, Any]]:
    """Return the figures of the models of a translator: of one, or of those of a chain that were measured."""
    if "seconds" in measured:  # those of the only model
        return [measured]
    return [each for name, each in measured.items() if not translator or name.partition(" ")[0] == translator]
