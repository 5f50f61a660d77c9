"""Report as one HTML file that needs nothing else: no font, no network, and no script but its own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from pipeline.report.content import (
    Chart,
    Report,
    Table,
    numeric_columns,
    quarantine_heading,
    quarantine_rows,
)
from pipeline.report.page.charts import chart_html
from pipeline.report.page.galleries import galleries_html
from pipeline.report.page.script import DIALOG, SCRIPT, SOURCE
from pipeline.report.page.style import STYLE
from pipeline.report.page.text import lines, text

MOST_ROWS = 200
"""Rows of a table, and lines of the quarantine, that a page shows."""
_LONGEST_COMMAND, _LONGEST_NOTE, _LONG_FACT = 20_000, 2000, 18
_FEW = 8
"""Lines of the quarantine that a reader counts at a glance."""


def render_report(report: Report) -> str:
    """Render the whole HTML document. Every text of the report is escaped, and what is cut is said."""
    drawn = [table.chart for table in report.tables if table.chart]
    sections = [
        _header(report), _facts(report), _notes(report), *map(_table, report.summary), _pictures(report),
        *_charts([*report.charts, *drawn]),
        *(_table(table) for table in report.tables if not table.chart), _quarantine(report), _provenance(report),
        _command(report),
    ]  # fmt: skip
    body = lines(sections)
    has_script = '<section class="gallery' in body
    # Anything in a key or a message that got past the escaping still could not load or run anything.
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {SOURCE}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{text(report.title)}</title>
<style>
{STYLE}
</style>
</head>
<body>
<main>
{body}
</main>
{f"{DIALOG}{chr(10)}<script>{SCRIPT}</script>" if has_script else ""}
</body>
</html>
"""


def _header(report: Report) -> str:
    subtitle = f'<p class="subtitle">{text(report.subtitle)}</p>' if report.subtitle else ""
    status = f'<span class="status {_mood(report.status)}">{text(report.status)}</span>'
    return lines(["<header>", f"<h1>{text(report.title)}</h1>", status, subtitle, "</header>"])


def _mood(status: str) -> str:
    return {"complete": "good", "looked through": "good", "failed": "bad"}.get(status, "open")


def _facts(report: Report) -> str:
    if not report.facts:
        return ""
    facts = [_fact(name, value) for name, value in report.facts]
    return lines(['<dl class="card facts">', *facts, "</dl>"])


def _fact(name: str, value: str) -> str:
    style = ' class="long"' if len(value) > _LONG_FACT else ""
    return f"<div><dt>{text(name)}</dt><dd{style}>{text(value)}</dd></div>"


def _notes(report: Report) -> str:
    return lines([f'<p class="remark">{text(note)}</p>' for note in report.notes])


def _pictures(report: Report) -> str:
    return lines(["<h2>Pictures</h2>", *galleries_html(report.galleries)]) if report.galleries else ""


def _charts(charts: Sequence[Chart]) -> list[str]:
    """Return the charts, those of a section that follow each other below their heading."""
    return [
        lines([f"<h2>{text(section)}</h2>", '<div class="charts">', *map(chart_html, some), "</div>"])
        for section, some in itertools.groupby(charts, lambda chart: chart.section)
    ]


def _table(table: Table) -> str:
    scored = [any("±" in row[i] for row in table.rows) for i in range(len(table.columns))]
    styles = ["number" if is_numeric else "score" * scored[i] for i, is_numeric in enumerate(numeric_columns(table))]
    grid = _grid("table", table.columns, table.rows, styles)
    note = f'<p class="note">{text(table.note, _LONGEST_NOTE)}</p>' if table.note else ""
    return lines([f"<h2>{text(table.title)}</h2>", grid, note])


def _quarantine(report: Report) -> str:
    if report.quarantine_total is None:
        return ""
    heading = f"<h2>{quarantine_heading(report, most=MOST_ROWS)}</h2>"
    if not report.quarantine_total:
        return heading
    return lines([heading, *_reasons(report), *_quarantine_pictures(report), _quarantine_lines(report)])


def _reasons(report: Report) -> Sequence[str]:
    """Return a bar for each reason; nothing where nobody counted, or where a few lines say it as well."""
    if not report.reasons or (report.quarantine_total or 0) <= min(_FEW, len(report.quarantine)):
        return []
    counted, total = sum(report.reasons.values()), report.quarantine_total or 0
    in_order = sorted(report.reasons.items(), key=lambda item: (-item[1], item[0]))
    chart = Chart(
        title="Reasons" if counted == total else f"Reasons of {counted:,} of {total:,}",
        kind="bars",
        x_title="reason",
        y_title="inputs",
        series={"inputs": [(i, count) for i, (_, count) in enumerate(in_order)]},
        labels={"inputs": [f"{count:,} ({count / counted:.0%})" for _, count in in_order]},
        categories=[reason for reason, _ in in_order],
        note="" if counted == total else "The reasons of the others were not read.",
    )
    return ['<div class="charts">', chart_html(chart), "</div>"]


def _quarantine_pictures(report: Report) -> list[str]:
    return galleries_html([report.quarantine_pictures]) if report.quarantine_pictures else []


def _quarantine_lines(report: Report) -> str:
    if not report.quarantine:
        return ""
    columns, styles = ("key", "stage", "reason", "message"), ("key", "", "reason", "message")
    return _grid("quarantine", columns, quarantine_rows(report)[:MOST_ROWS], styles)


def _provenance(report: Report) -> str:
    if not report.provenance and not report.settings:
        return ""
    return lines(
        [
            "<h2>Provenance</h2>",
            _pairs(report.provenance) if report.provenance else "",
            f"<details><summary>All {len(report.settings)} settings that change the result</summary>"
            f"{_pairs(report.settings)}</details>"
            if report.settings
            else "",
        ]
    )


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    rows = [f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in pairs]
    return lines(['<dl class="card pairs">', *rows, "</dl>"])


def _command(report: Report) -> str:
    if not report.command:
        return ""
    # Words stay whole, since a browser would break a line within the hyphens of an option.
    words = text(report.command, _LONGEST_COMMAND).split(" ")
    shown = " ".join(f'<span class="word">{word}</span>' for word in words)
    return f'<h2>Command to reproduce</h2>\n<pre class="card"><code>{shown}</code></pre>'


def _grid(kind: str, columns: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str]) -> str:
    """Return a table that scrolls sideways where it is too wide; a style is the class of its column's cells."""
    head = _row("th", columns, ["number" if style == "number" else "" for style in styles])
    body = [_row("td", row, styles) for row in rows[:MOST_ROWS]]
    cut = f'<p class="note">{len(rows) - len(body):,} further rows are not shown.</p>' if len(rows) > len(body) else ""
    opening = f'<div class="card scroll {kind}" tabindex="0"><table>'
    return lines([opening, f"<thead>{head}</thead>", "<tbody>", *body, "</tbody>", "</table></div>", cut])


def _row(tag: str, cells: Sequence[str], styles: Sequence[str]) -> str:
    return "<tr>" + "".join(_cell(tag, cell, style) for cell, style in zip(cells, styles, strict=True)) + "</tr>"


def _cell(tag: str, cell: str, style: str) -> str:
    attribute = f' class="{style}"' if style else ""
    return f"<{tag}{attribute}>{text(cell)}</{tag}>"
