"""Charts of a report as plain data: series of points, and what their axes are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Chart of a report; a page draws it, a terminal leaves it out.

    `series` are points (x, y) by the name that the legend has for them, of which each kind makes something else:

    - "line": y over x, x ascending. Points whose y is not finite are left out, and the page says how many.
    - "scatter": one mark a point, with its text of `labels` beside it where it has one.
    - "histogram": bins (left edge, count), edges ascending, and last the right edge with a count of 0.
      `histogram_bins` makes them from values, on edges that all series share.
    - "bars": (i, value) is the bar of `categories[i]`. Bars lie, so that long names of categories can be read, and end
      with their value, or their text of `labels`.
    """

    title: str
    kind: Literal["line", "histogram", "scatter", "bars"]
    x_title: str
    """Name of x and its unit, such as "time (min)"; of "bars", what the categories are."""
    y_title: str
    """Name of y and its unit, such as "images/s"."""
    series: Mapping[str, Points]
    log_y: bool = False
    """Scale of y by its logarithm. Values that are not above zero are left out then, and the page says how many."""
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Texts of the points of a series of a "scatter", or of "bars": one each, empty for a point without."""
    categories: Sequence[str] = ()
    """Names of the bars, from the top down."""
    note: str = ""
    """Sentence below the chart, such as what was left out."""
    section: str = "Charts"
    """Heading on the page under which the chart stands with others of the same section."""

    def __post_init__(self) -> None:
        if not (self.title and self.x_title and self.y_title):
            raise ValueError(f"chart {self.title!r} needs a title and a name and unit for each axis")
        if bool(self.categories) != (self.kind == "bars"):
            raise ValueError(f"chart {self.title!r}: categories are for bars, and bars need them")
        for name, points in self.series.items():
            _check_points(self, name, points)
        for name, texts in self.labels.items():
            labelled = self.kind in ("scatter", "bars") and name in self.series
            if not labelled or len(texts) != len(self.series[name]):
                raise ValueError(f"chart {self.title!r}: labels of {name!r} need a scatter or bars with as many points")


def _check_points(chart: Chart, name: str, points: Points) -> None:
    """Raise ValueError where the points of a series are none that a chart of this kind can draw."""
    of = f"chart {chart.title!r}, series {name!r}"
    xs = [x for x, _ in points]
    if not all(map(math.isfinite, xs)):
        raise ValueError(f"{of}: an x is not finite")
    if chart.kind in ("line", "histogram") and any(a > b for a, b in itertools.pairwise(xs)):
        raise ValueError(f"{of}: x does not ascend")
    if chart.kind == "histogram" and (len(points) < 2 or points[-1][1] != 0):
        raise ValueError(f"{of}: bins end with the right edge and a count of 0")
    if chart.kind == "bars" and not {*xs} <= {*range(len(chart.categories))}:
        raise ValueError(f"{of}: an x is not the number of one of {len(chart.categories)} categories")


def histogram_bins(values: Mapping[str, Sequence[float]], bins: int = 24) -> dict[str, list[tuple[float, float]]]:
    """Return `series` of a "histogram" from the values of each, on `bins` edges of equal width that all share.

    Values that are not finite are left out; so is a series without any that is.
    """
    finite = {name: np.asarray(some, float) for name, some in values.items()}
    finite = {name: some[np.isfinite(some)] for name, some in finite.items()}
    finite = {name: some for name, some in finite.items() if len(some)}
    if not finite:
        return {}
    edges = np.histogram_bin_edges(np.concatenate(list(finite.values())), bins)
    return {
        name: list(zip(edges.tolist(), [*np.histogram(some, edges)[0].tolist(), 0], strict=True))
        for name, some in finite.items()
    }
