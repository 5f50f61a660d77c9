"""Content of a report: what a chart and a gallery refuse, and how values become bins."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.report.content import Chart, Gallery, GalleryRow, histogram_bins

AXES = {"x_title": "step", "y_title": "loss"}


@pytest.mark.parametrize(
    ("kind", "points", "why"),
    [
        ("line", [(1, 0), (0, 0)], "does not ascend"),
        ("line", [(float("nan"), 0)], "not finite"),
        ("histogram", [(0, 3), (1, 2)], "right edge"),
        ("bars", [(2, 1)], "categories"),
    ],
)
def test_points_that_a_chart_cannot_draw_are_refused(kind: str, points: list[tuple[float, float]], why: str) -> None:
    categories = ["a", "b"] if kind == "bars" else []
    with pytest.raises(ValueError, match=why):
        Chart(title="t", kind=kind, series={"s": points}, categories=categories, **AXES)  # type: ignore[arg-type]


def test_axes_need_names_and_labels_a_text_for_each_point() -> None:
    with pytest.raises(ValueError, match="name and unit"):
        Chart(title="t", kind="line", x_title="", y_title="y", series={})
    with pytest.raises(ValueError, match="as many points"):
        Chart(title="t", kind="scatter", series={"s": [(0, 0), (1, 1)]}, labels={"s": ["one"]}, **AXES)


def test_values_become_bins_on_common_edges_and_none_is_lost() -> None:
    values = {"a": [0.0, 1.0, 1.0, float("nan")], "b": [4.0], "none": [float("inf")]}
    bins = histogram_bins(values, 4)
    assert bins == {
        "a": [(0.0, 1), (1.0, 2), (2.0, 0), (3.0, 0), (4.0, 0)],
        "b": [(0.0, 0), (1.0, 0), (2.0, 0), (3.0, 1), (4.0, 0)],
    }
    Chart(title="t", kind="histogram", series=bins, **AXES)


def test_a_gallery_refuses_pictures_that_a_page_cannot_show() -> None:
    good = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="4×4×1 uint8"):
        GalleryRow(caption="k", pictures=[good[..., :1]])
    with pytest.raises(ValueError, match="1 pictures for 2 columns: input, translation"):
        Gallery(title="t", heads=["input", "translation"], rows=[GalleryRow(caption="k", pictures=[good])])
    Gallery(title="t", heads=["input", "translation"], rows=[GalleryRow(caption="k", pictures=[good, None])])
