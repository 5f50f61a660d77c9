from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from pipeline.report.curves import HEIGHT, WIDTH, curves


def drawn(html: str) -> list[list[tuple[float, float]]]:
    """Return the corners of each curve."""
    root = ElementTree.fromstring(f"<div>{html}</div>")
    return [
        [tuple(map(float, corner.split(","))) for corner in line.get("points", "").split()]  # type: ignore[misc]
        for line in root.iter("polyline")
    ]


def test_curves_share_a_scale_and_stay_in_the_picture() -> None:
    first, second = drawn(curves({"a": [(0, 0.0), (50, 10.0), (100, 5.0)], "b": [(0, 10.0), (100, 10.0)]}))
    assert first[1][1] == second[0][1] == second[1][1] < first[2][1] < first[0][1]
    assert first[0][0] == second[0][0] < first[1][0] < first[2][0] == second[1][0]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in first + second)


def test_a_long_series_is_thinned_to_means() -> None:
    (line,) = drawn(curves({"a": [(step, step % 2) for step in range(100_000)]}))
    assert len(line) <= 300
    assert len({y for _, y in line}) == 1


@pytest.mark.parametrize("points", [[], [(1, math.nan)]])
def test_nothing_to_draw_is_no_picture(points: list[tuple[float, float]]) -> None:
    assert curves({"a": points}) == ""


def test_one_point_is_a_dot_and_a_flat_curve_has_a_scale() -> None:
    assert "<circle" in curves({"a": [(5, 1.0)]})
    (line,) = drawn(curves({"a": [(5, 1.0), (6, 1.0)]}))
    assert all(0 < y < HEIGHT for _, y in line)


def test_values_of_many_sizes_have_a_logarithmic_scale() -> None:
    ((_, one), (_, ten), (_, hundred)) = drawn(curves({"a": [(0, 1.0), (1, 10.0), (2, 100.0)]}))[0]
    assert one - ten == pytest.approx(ten - hundred, abs=0.2)


def test_names_are_text() -> None:
    assert "<script>" not in curves({"<script>": [(1, 2.0), (2, 3.0)]})
