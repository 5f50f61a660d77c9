"""Content of a report, before it has a form."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

NUMBER = re.compile(
    r"""
    [-+−]? \d[\d,._]* (e[-+]?\d+)? [ ]? ( % | × | [^\W\d]{1,8} (/[^\W\d]+)? )?
    | [-+]?inf | nan
    | [-–—]?
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""Number with its unit, or the sign that stands for a missing one."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Table of a report; every cell is text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {index} of {self.title!r} has {len(row)} cells for {len(self.columns)} columns")


@dataclass(frozen=True, kw_only=True)
class QuarantineLine:
    """One quarantined input."""

    key: str
    stage: str
    reason: str
    message: str


Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Chart of a report; a page draws it, a terminal leaves it out.

    `series` are points (x, y) by the name that the legend has for them, of which each kind makes something else:

    - "line": y over x, x ascending. Points whose y is not finite are left out, and the page says how many.
    - "scatter": one mark a point, with its text of `labels` beside it where it has one.
    - "histogram": bins (left edge, count), edges ascending, and last the right edge with a count of 0.
      `histogram_bins` makes them from values, on edges that all series share.
    - "bars": (i, value) is the bar of `categories[i]`. Bars lie, so that long names of categories can be read.
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
    """Texts of the points of a series of a "scatter", one each, empty for a point without."""
    categories: Sequence[str] = ()
    """Names of the bars, from the top down."""
    note: str = ""
    """Sentence below the chart, such as what was left out."""

    def __post_init__(self) -> None:
        if not (self.title and self.x_title and self.y_title):
            raise ValueError(f"chart {self.title!r} needs a title and a name and unit for each axis")
        if bool(self.categories) != (self.kind == "bars"):
            raise ValueError(f"chart {self.title!r}: categories are for bars, and bars need them")
        for name, points in self.series.items():
            _check_points(self, name, points)
        for name, texts in self.labels.items():
            if self.kind != "scatter" or name not in self.series or len(texts) != len(self.series[name]):
                raise ValueError(f"chart {self.title!r}: labels of {name!r} need a scatter with as many points")


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


@dataclass(frozen=True, kw_only=True)
class GalleryRow:
    """Pictures that belong together, such as an input and its translation."""

    caption: str
    """Key of the row."""
    pictures: Sequence[np.ndarray | None]
    """One for each head of the gallery: uint8 [H, W, 3], or None where there is none. A page makes those smaller that
    are larger than it shows them."""
    scores: Sequence[tuple[str, str]] = ()
    """Names and values of the row's scores, as they are to be read."""

    def __post_init__(self) -> None:
        for picture in self.pictures:
            if picture is None:
                continue
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
                shape = "×".join(map(str, picture.shape))
                raise ValueError(f"a picture of {self.caption!r} is {shape} {picture.dtype}, not [H, W, 3] uint8")


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Contact sheet of a page: rows of pictures under common heads. A terminal leaves it out."""

    title: str
    heads: Sequence[str]
    """Names of the columns, such as "input", "translation", "target" and "cycle". Where there are "input" and
    "translation", a page can lay one over the other."""
    rows: Sequence[GalleryRow]
    note: str = ""
    """Sentence below the pictures, such as how many rows are not shown."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.pictures) != len(self.heads):
                many = f"{len(row.pictures)} pictures for {len(self.heads)} columns"
                raise ValueError(f"row {row.caption!r} of {self.title!r} has {many}: {', '.join(self.heads)}")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Drawing of a report, as HTML that is inserted unchanged; a page shows it, a terminal does not."""

    title: str
    html: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """Account of one run. All text is treated as data: keys and messages may hold anything."""

    title: str
    status: str
    """One word or two: "complete", "failed", "stopped"."""
    subtitle: str = ""
    facts: Sequence[tuple[str, str]] = ()
    """Names and values, in the order of their importance."""
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    galleries: Sequence[Gallery] = ()
    command: str = ""
    """Line that does the same again; empty where it is not known."""
    provenance: Sequence[tuple[str, str]] = ()
    """Names and values of what the work was made from and with: models, versions, seed, sources, machine."""
    figures: Sequence[Figure] = ()
    sheet_png: bytes | None = None
    """Contact sheet."""
    quarantine: Sequence[QuarantineLine] = ()
    """Quarantined inputs that are shown."""
    quarantine_total: int | None = 0
    """Number of quarantined inputs, shown or not; None where nothing is ever quarantined."""

    def __post_init__(self) -> None:
        if self.quarantine_total is not None and self.quarantine_total < len(self.quarantine):
            shown = len(self.quarantine)
            raise ValueError(f"quarantine_total is {self.quarantine_total}, but {shown} lines of quarantine are shown")


def quarantine_heading(report: Report) -> str:
    """Return a line with the number of quarantined inputs, and of those shown where that is not all."""
    total, shown = report.quarantine_total, len(report.quarantine)
    if not total:
        return "No input was quarantined"
    counted = f"{total:,} input{'s' if total > 1 else ''} quarantined"
    return counted if shown == total else f"{counted}, {shown:,} shown"


def quarantine_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """Return key, stage, reason and message of the inputs that are shown."""
    return [(line.key, line.stage, line.reason, line.message) for line in report.quarantine]


def numeric_columns(table: Table) -> list[bool]:
    """Return, for each column, True where it holds only numbers, and so is aligned to the right."""
    cells = zip(*table.rows, strict=True) if table.rows else [("",)] * len(table.columns)
    return [any(column) and all(NUMBER.fullmatch(cell) for cell in column) for column in cells]


def shorten(text: str, kept: int) -> str:
    """Shorten text to `kept` letters from its two ends, with an ellipsis between them; keep it whole where it fits."""
    if len(text) <= kept:
        return text
    tail = kept // 2
    return text[: kept - tail] + "…" + text[len(text) - tail :]
