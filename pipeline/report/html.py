"""Report as one HTML file that needs nothing else: no script, no font, no network."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape

from pipeline.errors import printable
from pipeline.report.content import Figure, Report, Table, numeric_columns, quarantine_heading, quarantine_rows
from pipeline.report.style import STYLE

# Anything in a key or a message that got past the escaping still could not load or run anything.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render_report(report: Report) -> str:
    """Render the whole HTML document. Every text of the report is escaped."""
    sections = [
        _header(report), _facts(report), _sheet(report), *map(_figure, report.figures), *map(_table, report.tables),
        _quarantine(report),
    ]  # fmt: skip
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{_text(report.title)}</title>
<style>
{STYLE}
</style>
</head>
<body>
<main>
{_lines(sections)}
</main>
</body>
</html>
"""


def _text(text: str) -> str:
    return escape(printable(text))


def _lines(parts: Sequence[str]) -> str:
    return "\n".join(part for part in parts if part)


def _header(report: Report) -> str:
    subtitle = f'<p class="subtitle">{_text(report.subtitle)}</p>' if report.subtitle else ""
    status = f'<span class="status {_mood(report.status)}">{_text(report.status)}</span>'
    return _lines(["<header>", f"<h1>{_text(report.title)}</h1>", status, subtitle, "</header>"])


def _mood(status: str) -> str:
    return {"complete": "good", "failed": "bad"}.get(status, "open")


def _facts(report: Report) -> str:
    if not report.facts:
        return ""
    facts = [f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in report.facts]
    return _lines(['<dl class="card">', *facts, "</dl>"])


def _sheet(report: Report) -> str:
    if report.sheet_png is None:
        return ""
    data = b64encode(report.sheet_png).decode("ascii")
    return _lines(
        [
            "<h2>Pictures</h2>",
            f'<figure class="card scroll"><img alt="Contact sheet" src="data:image/png;base64,{data}"></figure>',
        ]
    )


def _figure(figure: Figure) -> str:
    return _lines([f"<h2>{_text(figure.title)}</h2>", f'<figure class="card curves">{figure.html}</figure>'])


def _table(table: Table) -> str:
    styles = ["number" if is_numeric else "" for is_numeric in numeric_columns(table)]
    return _lines([f"<h2>{_text(table.title)}</h2>", _grid("table", table.columns, table.rows, styles)])


def _quarantine(report: Report) -> str:
    if report.quarantine_total is None:
        return ""
    heading = f"<h2>{quarantine_heading(report)}</h2>"
    if not report.quarantine:
        return heading
    columns, styles = ("Key", "Stage", "Reason", "Message"), ("key", "", "reason", "message")
    return _lines([heading, _grid("quarantine", columns, quarantine_rows(report), styles)])


def _grid(kind: str, columns: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str]) -> str:
    """Return a table that scrolls sideways where it is too wide; a style is the class of its column's cells."""
    head = _row("th", columns, ["number" if style == "number" else "" for style in styles])
    body = [_row("td", row, styles) for row in rows]
    opening = f'<div class="card scroll {kind}"><table>'
    return _lines([opening, f"<thead>{head}</thead>", "<tbody>", *body, "</tbody>", "</table></div>"])


def _row(tag: str, cells: Sequence[str], styles: Sequence[str]) -> str:
    return "<tr>" + "".join(_cell(tag, cell, style) for cell, style in zip(cells, styles, strict=True)) + "</tr>"


def _cell(tag: str, cell: str, style: str) -> str:
    attribute = f' class="{style}"' if style else ""
    return f"<{tag}{attribute}>{_text(cell)}</{tag}>"
