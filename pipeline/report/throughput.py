"""Throughput of an output over time, from the times in the commits of its units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.engine.estimate.amounts import at_work_s
from pipeline.engine.records.units import Segment
from pipeline.report.content import Chart, Points

BINS = 60
LEAST_S = 5.0
"""Seconds at work, below which a course over time says nothing."""
MOST_HOSTS = 6
"""Hosts that have a line of their own."""


def of_last_run(segments: Sequence[Segment], manifest: pa.Table) -> pa.Table:
    """Return the units whose times belong together: those of the last slot, or of all segments without a label."""
    if not segments or not segments[-1].label:
        return manifest
    return manifest.filter(pc.starts_with(manifest["unit"], f"{segments[-1].number:06d}-"))


def seconds_at_work(units: pa.Table) -> float:
    """Return the seconds in which at least one of these units was at work."""
    return at_work_s(zip(units["started"].to_pylist(), units["ended"].to_pylist(), strict=True))


def throughput_charts(units: pa.Table, label: str) -> Iterator[Chart]:
    """Yield charts of the images a second, and of the units that were at work at once, over the time of these units.

    None of a run that took less than LEAST_S.
    """
    if not len(units) or seconds_at_work(units) < LEAST_S:
        return
    started, ended = (units[name].to_numpy() for name in ("started", "ended"))
    rows, first = units["inputs"].to_numpy().astype(float), float(started.min())
    length = max(float(ended.max()) - first, 1e-3)
    unit, per = ("h", 3600.0) if length > 3 * 3600 else ("min", 60.0) if length > 180 else ("s", 1.0)
    edges = np.linspace(0, length, min(BINS, max(2, len(units) * 2)) + 1)
    spans = (started - first, np.maximum(ended - first, started - first + 1e-3))
    hosts = np.array(units["host"].to_pylist(), dtype=object)
    names = sorted(set(hosts.tolist()))
    series = {"all units": _rate(edges, *spans, rows, per)}
    if 1 < len(names) <= MOST_HOSTS:
        for name in names:
            mine = hosts == name
            series[str(name)] = _rate(edges, spans[0][mine], spans[1][mine], rows[mine], per)
    of = f" of slot {label}" if label else ""
    yield Chart(
        title=f"Throughput{of}",
        kind="line",
        x_title=f"time since the first unit began ({unit})",
        y_title="images/s",
        series=series,
        note="Images of a unit are spread evenly over the time from its reading to its commit.",
        section="Throughput",
    )
    yield Chart(
        title=f"Units at work{of}",
        kind="line",
        x_title=f"time since the first unit began ({unit})",
        y_title="units",
        series={"units": _rate(edges, *spans, ended - started, per)},
        section="Throughput",
    )


def _rate(edges: np.ndarray, started: np.ndarray, ended: np.ndarray, amount: np.ndarray, per: float) -> Points:
    """Return the amount a second between each two edges, at their middle, each amount spread evenly over its span."""
    done = np.zeros(len(edges))
    for begin in range(0, len(started), 4096):
        some = slice(begin, begin + 4096)
        share = (edges[:, None] - started[None, some]) / (ended[some] - started[some])
        done += np.clip(share, 0, 1) @ amount[some]
    middles = (edges[:-1] + edges[1:]) / 2 / per
    return list(zip(middles.tolist(), (np.diff(done) / np.diff(edges)).tolist(), strict=True))
