"""Report as a few lines for a terminal."""

from collections.abc import Sequence

from pipeline.errors import printable
from pipeline.report.content import Report, Table, numeric_columns, quarantine_heading, quarantine_rows, shorten
from pipeline.terminal import aligned

CELL_WIDTH = 56
LAST_CELL_WIDTH = 160
"""Number of letters that a row's last cell may have, since it holds paths and messages; CELL_WIDTH is for the
others."""


def render_text(report: Report) -> str:
    """Render title and status, facts, tables and the quarantine, aligned; no colours, no trailing newline."""
    blocks = [_heading(report)]
    if report.facts:
        blocks.append(_aligned(report.facts, (False, False)))
    blocks.extend(_table(table) for table in report.tables)
    if report.quarantine_total:
        blocks.append(_quarantine(report))
    return "\n\n".join(blocks)


def _heading(report: Report) -> str:
    heading = f"{printable(report.title)}: {printable(report.status)}"
    return f"{heading}\n{printable(report.subtitle)}" if report.subtitle else heading


def _table(table: Table) -> str:
    return f"{printable(table.title)}\n{_aligned([table.columns, *table.rows], numeric_columns(table))}"


def _quarantine(report: Report) -> str:
    heading, rows = quarantine_heading(report), quarantine_rows(report)
    return f"{heading}\n{_aligned(rows, [False] * 4)}" if rows else heading


def _aligned(rows: Sequence[Sequence[str]], to_the_right: Sequence[bool]) -> str:
    """Return rows of cells, indented, each column as wide as its widest cell; long cells are shortened."""
    limits = [CELL_WIDTH] * (len(to_the_right) - 1) + [LAST_CELL_WIDTH]
    shown = [[shorten(printable(cell), limit) for cell, limit in zip(row, limits, strict=True)] for row in rows]
    return aligned(shown, to_the_right)
