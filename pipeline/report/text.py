"""Report as a few lines for a terminal."""

import textwrap
from collections.abc import Sequence

from pipeline.errors import printable
from pipeline.report.content import Report, Table, numeric_columns, quarantine_heading, quarantine_rows, shorten
from pipeline.terminal import aligned

CELL_WIDTH = 56
LAST_CELL_WIDTH = 160
"""Number of letters that a row's last cell may have, since it holds paths and messages; CELL_WIDTH is for the
others."""

_LEAST_CELL, _NOTE_WIDTH = 8, 100


def render_text(report: Report, *, width: int | None = None) -> str:
    """Render title and status, facts, notes, tables and the quarantine, aligned; no colours, no trailing newline.

    With a `width`, facts and tables are no wider: their widest texts are shortened, numbers are not.
    """
    blocks = [_heading(report)]
    if report.facts:
        blocks.append(_aligned(report.facts, (False, False), width))
    blocks.extend(_note(note, width) for note in report.notes)
    blocks.extend(_table(table, width) for table in (*report.summary, *report.tables))
    if report.quarantine_total:
        blocks.append(_quarantine(report))
    return "\n\n".join(blocks)


def _heading(report: Report) -> str:
    heading = f"{printable(report.title)}: {printable(report.status)}"
    return f"{heading}\n{printable(report.subtitle)}" if report.subtitle else heading


def _table(table: Table, width: int | None) -> str:
    grid = _aligned([table.columns, *table.rows], numeric_columns(table), width)
    return "\n".join(filter(None, (printable(table.title), grid, _note(table.note, width))))


def _note(note: str, width: int | None) -> str:
    """Return a sentence in lines of `width`."""
    return textwrap.fill(printable(note), width or _NOTE_WIDTH, initial_indent="  ", subsequent_indent="  ")


def _quarantine(report: Report) -> str:
    heading, rows = quarantine_heading(report), quarantine_rows(report)
    return f"{heading}\n{_aligned(rows, [False] * 4)}" if rows else heading


def _aligned(rows: Sequence[Sequence[str]], to_the_right: Sequence[bool], width: int | None = None) -> str:
    """Return rows of cells, indented, each column as wide as its widest cell; long cells are shortened."""
    limits = [CELL_WIDTH] * (len(to_the_right) - 1) + [LAST_CELL_WIDTH]
    if width is not None:
        limits = _fitting(
            [max(len(printable(row[i])) for row in rows) for i in range(len(limits))], to_the_right, width
        )
    shown = [[shorten(printable(cell), limit) for cell, limit in zip(row, limits, strict=True)] for row in rows]
    return aligned(shown, to_the_right)


def _fitting(widths: Sequence[int], is_number: Sequence[bool], width: int) -> list[int]:
    """Return widths of columns that fit into `width`: those of texts give way, the widest first."""
    limits = list(widths)
    while sum(limits) + 2 * len(limits) > width:
        widest = max((i for i in range(len(limits)) if not is_number[i]), key=lambda i: limits[i], default=None)
        if widest is None or limits[widest] <= _LEAST_CELL:
            break
        limits[widest] -= 1
    # A text that is shortened has an ellipsis besides.
    return [limit - (limit < whole) for limit, whole in zip(limits, widths, strict=True)]
