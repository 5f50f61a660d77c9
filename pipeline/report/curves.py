"""Curves over steps as inline SVG: no script, and readable in light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 640, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 26
_MOST_POINTS = 300
_LOGARITHMIC = 30
_COLOURS = ("#3b7dd8", "#d9682b", "#3a9d5d", "#b04fb5", "#c2a21b", "#2aa5a5", "#d14a61", "#7a7f87")


def curves(series: Mapping[str, Points]) -> str:
    """Draw one curve per series over a common scale, and a legend. Values that are not finite are left out.

    The scale is logarithmic where all values are above zero and the largest is more than 30 times the smallest. A long
    series is drawn as the means of at most 300 stretches of it. Returns an empty string where there is nothing to draw.
    """
    thinned = {name: _thinned([p for p in points if math.isfinite(p[1])]) for name, points in series.items()}
    thinned = {name: points for name, points in thinned.items() if points}
    if not thinned:
        return ""
    xs = [x for points in thinned.values() for x, _ in points]
    ys = [y for points in thinned.values() for _, y in points]
    scale = math.log if min(ys) > 0 and max(ys) > _LOGARITHMIC * min(ys) else float
    low, high = _widened(scale(min(ys)), scale(max(ys)))
    left, right = _widened(min(xs), max(xs))

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - left) / (right - left) * (WIDTH - _LEFT - _RIGHT)
        down = HEIGHT - _BOTTOM - (scale(y) - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)
        return round(across, 1), round(down, 1)

    colours = _colours(len(thinned))
    drawn = [
        _curve([place(*p) for p in points], colour) for colour, points in zip(colours, thinned.values(), strict=True)
    ]
    legend = [
        f'<span><i style="background:{colour}"></i>{escape(name)} {points[-1][1]:.4g}</span>'
        for colour, (name, points) in zip(colours, thinned.items(), strict=True)
    ]
    svg = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        *(
            _label(_LEFT - 8, y, "end", f"{value:.3g}")
            for value, y in ((max(ys), _TOP + 4), (min(ys), HEIGHT - _BOTTOM))
        ),
        _label(_LEFT, HEIGHT - 8, "start", f"step {left:,.0f}"),
        _label(WIDTH - _RIGHT, HEIGHT - 8, "end", f"{right:,.0f}"),
        *drawn,
        "</svg>",
    ]
    return "".join(svg) + f'<p class="legend">{" ".join(legend)}</p>'


def _curve(points: Points, colour: str) -> str:
    if len(points) == 1:
        ((x, y),) = points
        return f'<circle r="3" fill="{colour}" cx="{x}" cy="{y}"/>'
    corners = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline fill="none" stroke="{colour}" stroke-width="1.6" points="{corners}"/>'


def _thinned(points: Points) -> list[tuple[float, float]]:
    length = -(-len(points) // _MOST_POINTS)
    stretches = [points[i : i + length] for i in range(0, len(points), length)] if points else []
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in stretches]


def _widened(low: float, high: float) -> tuple[float, float]:
    """Return the bounds, widened where they are equal: a scale needs a length."""
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _colours(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]


def _label(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
