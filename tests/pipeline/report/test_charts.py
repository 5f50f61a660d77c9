"""Charts of a page: drawn the same each time, in the colours of the page, and what is not drawn is said."""

from __future__ import annotations

import math
import re

import pytest

from pipeline.report.content import Chart, histogram_bins
from pipeline.report.page.charts import MOST_BARS, MOST_POINTS, chart_html, tick_text

LINES = Chart(
    title="a $x$ & b",
    kind="line",
    x_title="step",
    y_title="loss",
    series={"g_AB": [(i, 1 / (i + 1)) for i in range(10 * MOST_POINTS)], "g_BA": [(0, 1.0), (5, math.nan)]},
)


def test_the_same_chart_is_the_same_bytes_in_the_colours_of_the_page() -> None:
    document = chart_html(LINES)
    assert chart_html(LINES) == document
    assert "var(--series-1)" in document
    assert "var(--series-2)" in document
    assert not re.search(r"#0000[af]\d", document)
    assert "<metadata" not in document
    assert "font-family" not in document
    assert "a $x$ &amp; b" in document


def test_what_is_not_drawn_as_it_is_is_said() -> None:
    document = chart_html(LINES)
    assert "Means of 10 values each" in document
    assert "Not drawn: 1 (not finite)." in document
    assert "g_AB <b>0.0003333</b>" in document
    bars = [(i, i + 1.0) for i in range(MOST_BARS + 3)]
    names = [f"reason {i}" for i in range(len(bars))]
    many = Chart(title="t", kind="bars", x_title="reason", y_title="images", series={"n": bars}, categories=names)
    assert f"Not drawn: 3 (beyond the first {MOST_BARS})." in chart_html(many)
    below = Chart(title="t", kind="line", x_title="x", y_title="y", series={"a": [(0, 0.0), (1, 10.0)]}, log_y=True)
    assert "Not drawn: 1 (not above zero, or not finite)." in chart_html(below)


def test_a_chart_without_a_point_says_so() -> None:
    nothing = Chart(title="t", kind="line", x_title="x", y_title="y", series={"a": [(0, math.nan)]})
    assert "nothing to draw" in chart_html(nothing)
    empty = Chart(title="t", kind="histogram", x_title="x", y_title="y", series=histogram_bins({"a": [math.inf]}))
    assert "nothing to draw" in chart_html(empty)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (1500, "1,500"), (20_000, "20k"), (3.5e6, "3.5M"), (2e-4, "0.0002"), (0.1 + 0.2, "0.3")],
)
def test_ticks_are_short(value: float, text: str) -> None:
    assert tick_text(value) == text
