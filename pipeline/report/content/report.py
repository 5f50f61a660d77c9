"""Report as plain data: facts, tables, charts, galleries, what was quarantined, and where it all comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.report.content.chart import Chart
from pipeline.report.content.gallery import Gallery

NUMBER = re.compile(
    r"""
    ([<≈] [ ]?)? [-+−]? \d[\d,._]* (e[-+]?\d+)? [ ]? ( % | × | [^\W\d]{1,8} (/[^\W\d]+)? )?
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
    chart: Chart | None = None
    """Chart that says the same, which a page draws in place of the table."""
    note: str = ""
    """What the numbers hold for."""

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


@dataclass(frozen=True, kw_only=True)
class Report:
    """Account of one run. All text is treated as data: keys and messages may hold anything."""

    title: str
    status: str
    """One word or two: "complete", "failed", "stopped"."""
    subtitle: str = ""
    facts: Sequence[tuple[str, str]] = ()
    """Names and values, in the order of their importance."""
    notes: Sequence[str] = ()
    """Sentences that a reader of the facts has to know, such as what was passed over."""
    summary: Sequence[Table] = ()
    """Tables that say what came out, which stand before all pictures."""
    galleries: Sequence[Gallery] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    quarantine: Sequence[QuarantineLine] = ()
    """Quarantined inputs that are shown."""
    quarantine_total: int | None = 0
    """Number of quarantined inputs, shown or not; None where nothing is ever quarantined."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Number of quarantined inputs by reason, of those that were counted."""
    quarantine_pictures: Gallery | None = None
    """Quarantined inputs that can be looked at."""
    provenance: Sequence[tuple[str, str]] = ()
    """Names and values of what the work was made from and with: models, versions, seed, sources, machine."""
    settings: Sequence[tuple[str, str]] = ()
    """Names and values of all settings that change the result; a page folds them up, a terminal leaves them out."""
    command: str = ""
    """Line that does the same again; empty where it is not known."""

    def __post_init__(self) -> None:
        if self.quarantine_total is not None and self.quarantine_total < len(self.quarantine):
            shown = len(self.quarantine)
            raise ValueError(f"quarantine_total is {self.quarantine_total}, but {shown} lines of quarantine are shown")
        if sum(self.reasons.values()) > (self.quarantine_total or 0):
            raise ValueError(f"quarantine_total is {self.quarantine_total}, and {dict(self.reasons)} are more")


def quarantine_heading(report: Report, most: int | None = None) -> str:
    """Return a line with the number of quarantined inputs, and of those shown, at most so many, if that is not all."""
    total, shown = report.quarantine_total, len(report.quarantine[:most])
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
