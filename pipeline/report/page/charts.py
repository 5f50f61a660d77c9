"""Charts of a page as inline SVG by matplotlib, in the colours of the page, with legend and note as HTML."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.report.content import Chart, Points
from pipeline.report.page.text import attribute, lines, plain, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 360, 230
"""Size of a chart in CSS pixels: about that of its place on a phone, and of one of three in a row."""
MOST_POINTS, MOST_MARKS, MOST_BARS = 300, 2000, 24
"""Points of a line, marks of a scatter and bars that are drawn at most; a note says what was left out."""
COLOURS = 8
"""Colours of series; more series have broken lines."""
_FONT = 12
_BAR = 24
_LONGEST_CATEGORY, _LONGEST_LABEL, _LONGEST_TITLE = 22, 28, 40
_INK, _MUTED, _LINE = "#0000a1", "#0000a2", "#0000a3"
_SERIES = [f"#0000f{i}" for i in range(1, COLOURS + 1)]
_VARIABLES = {_INK: "ink", _MUTED: "muted", _LINE: "line"} | {c: f"series-{i}" for i, c in enumerate(_SERIES, 1)}
"""Variables of the page's style by the colours that stand for them while matplotlib draws."""
_STYLES = ["-", "--", ":", "-."]


class Drawn(NamedTuple):
    """Series as it is drawn."""

    points: Points
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    """Least and greatest value of the stretch that each point is the mean of; empty where it is the value itself."""
    stretch: int = 1
    """Values that a point is the mean of."""
    left_out: int = 0
    """Values that no point shows."""


def chart_html(chart: Chart) -> str:
    """Return a figure: title, drawing, legend and note. A chart without a point says so."""
    drawn = {name: _drawn(chart, points) for name, points in chart.series.items()}
    drawn = {name: each for name, each in drawn.items() if each.points}
    head = f"<h3>{text(chart.title)}</h3>"
    if not drawn:
        return lines(
            ['<figure class="card chart">', head, '<p class="note">There is nothing to draw.</p>', "</figure>"]
        )
    note = " ".join(filter(None, [chart.note, *_remarks(chart, drawn)]))
    return lines(
        [
            '<figure class="card chart">',
            head,
            _svg(chart, drawn),
            _legend(chart, drawn),
            f'<figcaption class="note">{text(note)}</figcaption>' if note else "",
            "</figure>",
        ]
    )


def _drawn(chart: Chart, points: Points) -> Drawn:
    """Return the points of a series that can be drawn, and no more of them than can be told apart."""
    shown = [(x, y) for x, y in points if math.isfinite(y) and (y > 0 or not chart.log_y)]
    if chart.kind == "histogram":
        return Drawn([] if len(points) < 2 else points)
    left_out = len(points) - len(shown)
    if chart.kind == "line":
        return _thinned(shown, left_out)
    most = MOST_BARS if chart.kind == "bars" else MOST_MARKS
    if chart.kind == "bars":
        kept = [(x, y) for x, y in shown if x < most]
    else:
        kept = shown[:: -(-len(shown) // most)] if shown else []
    return Drawn(kept, left_out=left_out + len(shown) - len(kept))


def _thinned(points: Points, left_out: int) -> Drawn:
    stretch = max(1, -(-len(points) // MOST_POINTS))
    if stretch == 1:
        return Drawn(points, left_out=left_out)
    parts = [points[i : i + stretch] for i in range(0, len(points), stretch)]
    values = [[y for _, y in part] for part in parts]
    means = [(part[-1][0], math.fsum(ys) / len(ys)) for part, ys in zip(parts, values, strict=True)]
    return Drawn(means, list(map(min, values)), list(map(max, values)), stretch, left_out)


def _remarks(chart: Chart, drawn: Mapping[str, Drawn]) -> Iterator[str]:
    """Yield a sentence for each thing that the drawing does not show as it is."""
    if (stretch := max(each.stretch for each in drawn.values())) > 1:
        yield f"Means of {stretch} values each; the shade spans the least to the greatest."
    if left_out := sum(each.left_out for each in drawn.values()):
        why = {"bars": f"beyond the first {MOST_BARS}", "scatter": "too many"}.get(chart.kind, "not finite")
        yield f"Not drawn: {left_out:,} ({'not above zero, or not finite' if chart.log_y else why})."


def _legend(chart: Chart, drawn: Mapping[str, Drawn]) -> str:
    """Return the names of the series with their colours, of lines with the last value; of a single one that alone."""
    shows_last = chart.kind == "line" and chart.shows_last
    last = {name: f"{_last(chart.series[name]):.4g}" for name in drawn} if shows_last else {}
    if len(drawn) == 1:
        ended = f"last value {next(iter(last.values()))}" if last and len(next(iter(drawn.values())).points) > 1 else ""
        return f'<p class="legend"><span>{ended}</span></p>' if ended else ""
    names = [
        f'<span><i class="series-{i % COLOURS + 1}"></i>{text(name)}'
        + (f" <b>{last[name]}</b>" if last else "")
        + "</span>"
        for i, name in enumerate(drawn)
    ]
    return f'<p class="legend">{"".join(names)}</p>'


def _last(points: Points) -> float:
    """Return the last value that is finite; there is one."""
    return next(y for _, y in reversed(points) if math.isfinite(y))


def _svg(chart: Chart, drawn: Mapping[str, Drawn]) -> str:
    """Return the drawing as an SVG element, in the colours that the page's style gives its variables."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    height = HEIGHT if chart.kind != "bars" else 46 + _BAR * len({x for each in drawn.values() for x, _ in each.points})
    buffer = io.StringIO()
    settings: Any = {
        "svg.fonttype": "none", "svg.hashsalt": plain(chart.title), "font.size": _FONT, "font.family": "DejaVu Sans",
        "text.parse_math": False, "text.color": _MUTED, "axes.labelcolor": _MUTED, "axes.edgecolor": _LINE,
        "xtick.labelcolor": _MUTED, "ytick.labelcolor": _MUTED, "xtick.color": _LINE, "ytick.color": _LINE,
        "axes.spines.top": False, "axes.spines.right": False, "axes.unicode_minus": False,
    }  # fmt: skip
    with mpl.rc_context(settings), warnings.catch_warnings():
        # The browser has the letters that the font by which matplotlib measures has not.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        _DRAW[chart.kind](axes, chart, drawn)
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
        )
    return _inline(buffer.getvalue(), f"{chart.title}: {chart.y_title} over {chart.x_title}")


def _inline(svg: str, label: str) -> str:
    """Return a document of matplotlib's as an element of a page: without sizes, names and fonts of its own."""
    svg = svg[svg.index("<svg") :]
    head = f'role="img" aria-label="{attribute(label)}"'
    svg = re.sub(r"<svg [^>]*(viewBox=\"[^\"]*\")[^>]*>", lambda found: f"<svg {found[1]} {head}>", svg, count=1)
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<[^>]*>", lambda tag: _tag(tag[0]), svg)  # and no text between them, which is the user's
    return re.sub(r"\n\s*", "\n", svg).strip()


def _tag(tag: str) -> str:
    """Return a tag of a drawing in the fonts and colours of the page."""
    tag = re.sub(r'<g id="[^"]*"', "<g", tag)
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag).replace("xlink:href", "href")
    tag = re.sub(r"(font: \d+(?:\.\d+)?px) [^;\"]*", r"\1 var(--font)", tag)
    return re.sub(r"(fill|stroke): (#0000[af]\d)", lambda m: f"{m[1]}: var(--{_VARIABLES[m[2]]})", tag)


def _style(number: int) -> dict[str, Any]:
    return {"color": _SERIES[number % COLOURS], "linestyle": _STYLES[number // COLOURS % len(_STYLES)]}


def _draw_lines(axes: Axes, chart: Chart, drawn: Mapping[str, Drawn]) -> None:
    for i, each in enumerate(drawn.values()):
        xs, ys = zip(*each.points, strict=True)
        if each.low:
            axes.fill_between(xs, each.low, each.high, color=_SERIES[i % COLOURS], alpha=0.15, linewidth=0)
        axes.plot(xs, ys, linewidth=1.6, marker="o" if len(xs) == 1 else "", markersize=4, **_style(i))
    _axes(axes, chart)


def _draw_histogram(axes: Axes, chart: Chart, drawn: Mapping[str, Drawn]) -> None:
    for i, each in enumerate(drawn.values()):
        edges, counts = zip(*each.points, strict=True)
        axes.stairs(counts[:-1], edges, fill=True, color=_SERIES[i % COLOURS], alpha=0.25)
        axes.stairs(counts[:-1], edges, linewidth=1.4, **_style(i))
    _axes(axes, chart, whole_y=True)


def _draw_scatter(axes: Axes, chart: Chart, drawn: Mapping[str, Drawn]) -> None:
    for i, (name, each) in enumerate(drawn.items()):
        xs, ys = zip(*each.points, strict=True)
        axes.scatter(xs, ys, s=18, color=_SERIES[i % COLOURS], alpha=0.8 if len(xs) < 100 else 0.4, linewidths=0)
        said = dict(zip(chart.series[name], chart.labels.get(name, ()), strict=False))
        for point in each.points:
            if said.get(point):
                label = plain(said[point], _LONGEST_LABEL)
                axes.annotate(label, point, xytext=(5, 4), textcoords="offset points", color=_INK)
    axes.margins(x=0.12, y=0.12)
    _axes(axes, chart)


def _draw_bars(axes: Axes, chart: Chart, drawn: Mapping[str, Drawn]) -> None:
    places = sorted({x for each in drawn.values() for x, _ in each.points})
    thick, most = 0.72 / len(drawn), max(y for each in drawn.values() for _, y in each.points)
    for i, (name, each) in enumerate(drawn.items()):
        said = {x: label for (x, _), label in zip(chart.series[name], chart.labels.get(name, ()), strict=False)}
        for x, y in each.points:
            at = places.index(x) + (i - (len(drawn) - 1) / 2) * thick
            axes.barh(at, y, thick, color=_SERIES[i % COLOURS], alpha=0.75)
            label = plain(said.get(x) or f"{y:,.4g}", _LONGEST_LABEL)
            axes.annotate(label, (y, at), xytext=(5, 0), textcoords="offset points", va="center", color=_INK)
    names = [plain(chart.categories[int(x)], _LONGEST_CATEGORY) for x in places]
    axes.set_yticks(range(len(places)), names)
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, (most or 1) * 1.4)
    _ticks(axes.xaxis, whole=all(float(y).is_integer() for each in drawn.values() for _, y in each.points))
    axes.set_xlabel(plain(chart.y_title, _LONGEST_TITLE))
    axes.grid(axis="x", color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)


_DRAW: Mapping[str, Callable[[Any, Chart, Mapping[str, Drawn]], None]] = {
    "line": _draw_lines,
    "histogram": _draw_histogram,
    "scatter": _draw_scatter,
    "bars": _draw_bars,
}


def _axes(axes: Axes, chart: Chart, *, whole_y: bool = False) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xlabel(plain(chart.x_title, _LONGEST_TITLE))
    axes.set_ylabel(plain(chart.y_title, _LONGEST_TITLE))
    axes.grid(color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    _ticks(axes.xaxis, whole=all(float(x).is_integer() for points in chart.series.values() for x, _ in points))
    if not chart.log_y:
        if _from_zero(chart):
            axes.set_ylim(bottom=0)
        _ticks(axes.yaxis, whole=whole_y)
        return
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    subs = (1.0,) if high / low > 1e3 else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(tick_text))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _from_zero(chart: Chart) -> bool:
    """Return True where a scale from zero hides nothing: amounts that differ by more than a third, or not at all."""
    ys = [y for points in chart.series.values() for _, y in points if math.isfinite(y)]
    return chart.kind == "line" and min(ys) >= 0 and (max(ys) > 1.33 * min(ys) or max(ys) == min(ys))


def _ticks(axis: Any, *, whole: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=5, integer=whole, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(tick_text))


def tick_text(value: float, _: object = None) -> str:
    """Return the text of a tick: short, and as people write numbers."""
    for unit, per in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= per * (10 if unit == "k" else 1):
            return f"{value / per:.4g}{unit}"
    return f"{value:.6g}" if abs(value) < 1e-3 else f"{round(value, 6):,.10g}"
