"""Throughput of an output over time, by stage, from the times in the commits of its units."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.engine.estimate.amounts import at_work_s
from pipeline.engine.records.units import Segment
from pipeline.report.content import Chart, Points

BINS = 60
LEAST_S = 5.0
"""Seconds at work, below which a course over time says nothing."""
LEAST_UNITS = 4
"""Units, below which it says nothing either."""
UNKNOWN_STAGE = "reading to commit"
"""Name for the time of units whose commits do not tell their stages."""


def of_last_run(segments: Sequence[Segment], manifest: pa.Table) -> pa.Table:
    """Return the units whose times belong together: those of the last slot, or of all segments without a label."""
    if not segments or not segments[-1].label:
        return manifest
    return manifest.filter(pc.starts_with(manifest["unit"], f"{segments[-1].number:06d}-"))


def seconds_at_work(units: pa.Table) -> float:
    """Return the seconds in which at least one of these units was at work."""
    return at_work_s(zip(units["started"].to_pylist(), units["ended"].to_pylist(), strict=True))


def throughput_charts(units: pa.Table, label: str) -> Iterator[Chart]:
    """Yield charts of the images a second, and of the units at work at once, by stage, over the time of these units.

    None of a run that took less than LEAST_S, or had fewer than LEAST_UNITS. Commits of earlier versions do not say
    when a unit was in which stage: units of these are drawn from their reading to their commit.
    """
    if len(units) < LEAST_UNITS or seconds_at_work(units) < LEAST_S:
        return
    spans = _spans(units)
    first = min(float(span.started.min()) for span in spans.values())
    length = max(max(float(span.ended.max()) for span in spans.values()) - first, 1e-3)
    unit, per = ("h", 3600.0) if length > 3 * 3600 else ("min", 60.0) if length > 180 else ("s", 1.0)
    edges = np.linspace(0, length, min(BINS, max(2, len(units) * 2)) + 1)
    hosts = len(set(units["host"].to_pylist()))
    where = "" if hosts == 1 else f" Clocks are those of {hosts:,} machines."
    of = f" of slot {label}" if label else ""
    images = {name: _rate(edges, span, first, span.images, per) for name, span in spans.items()}
    at_work = {name: _rate(edges, span, first, span.ended - span.started, per) for name, span in spans.items()}
    for title, y_title, series, note in (
        ("Throughput", "images/s", images, f"Images of a unit are spread evenly over its time in the stage.{where}"),
        ("Units at work", "units", at_work, f"A unit that waits between two stages is in none.{where}"),
    ):
        yield Chart(
            title=f"{title}{of} by stage",
            kind="line",
            x_title=f"time since the first unit began ({unit})",
            y_title=y_title,
            series=series,
            note=note,
            shows_last=False,
            section="Throughput",
        )


class _Span(NamedTuple):
    """Times of the units in one stage, in seconds, [units] float64."""

    started: np.ndarray
    ended: np.ndarray
    images: np.ndarray


def _spans(units: pa.Table) -> dict[str, _Span]:
    """Return when units were in each stage, by its name; those of which that is not known under a name of their own."""
    found = defaultdict[str, list[tuple[float, float, int]]](list)
    for started, ended, images, stages in zip(
        *(units[name].to_pylist() for name in ("started", "ended", "inputs", "stages")), strict=True
    ):
        for each in stages or [{"name": UNKNOWN_STAGE, "started": started, "ended": ended}]:
            found[each["name"]].append((each["started"], each["ended"], images))
    return {name: _Span(*np.array(rows, float).T) for name, rows in found.items()}


def _rate(edges: np.ndarray, span: _Span, first: float, amount: np.ndarray, per: float) -> Points:
    """Return the amount a second between each two edges, at their middle, each amount spread evenly over its span."""
    started = span.started - first
    ended = np.maximum(span.ended - first, started + 1e-3)
    done = np.zeros(len(edges))
    for begin in range(0, len(started), 4096):
        some = slice(begin, begin + 4096)
        share = (edges[:, None] - started[None, some]) / (ended[some] - started[some])
        done += np.clip(share, 0, 1) @ amount[some]
    middles = (edges[:-1] + edges[1:]) / 2 / per
    return list(zip(middles.tolist(), (np.diff(done) / np.diff(edges)).tolist(), strict=True))
