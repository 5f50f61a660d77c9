"""Warning where a machine is much slower than the one that chose the arithmetic."""

from __future__ import annotations

import dataclasses

import pytest

from pipeline.models.arithmetic import NOTHING_MEASURED, Figures, exact
from pipeline.translation.pace import Pace

ARITHMETIC = dataclasses.replace(exact("cpu", batch=1), threads=2)
FIGURES = Figures(machine="a fast CPU", side=10, seconds={"fp32, eager": 0.5})


@pytest.mark.parametrize(
    ("figures", "seconds", "warnings"),
    [(FIGURES, 2.0, 1), (FIGURES, 1.0, 0), (NOTHING_MEASURED, 100.0, 0)],
)
def test_it_is_told_once(figures: Figures, seconds: float, warnings: int, caplog: pytest.LogCaptureFixture) -> None:
    pace = Pace(ARITHMETIC, figures)
    for _ in range(20):
        pace.note([(10, 10)], seconds)
    assert caplog.text.count("takes 4.0 × as long here") == warnings
    assert caplog.text.count("as was measured when the output began (fp32, eager 500 ms an image of 10²") == warnings


def test_the_first_images_say_little(caplog: pytest.LogCaptureFixture) -> None:
    Pace(ARITHMETIC, FIGURES).note([(10, 10)], 9.0)
    assert caplog.text == ""


def test_larger_images_may_take_longer(caplog: pytest.LogCaptureFixture) -> None:
    Pace(ARITHMETIC, FIGURES).note([(30, 100)], 20.0)
    assert caplog.text == ""


def test_a_gpu_shares_its_time_among_the_units_at_once(caplog: pytest.LogCaptureFixture) -> None:
    gpu = dataclasses.replace(ARITHMETIC, device="cuda", threads=None)
    Pace(gpu, FIGURES).note([(20, 100)], 40.0)
    assert caplog.text == ""


@pytest.mark.parametrize(("images", "seconds", "warnings"), [(1, 2.0, 0), (5, 4.0, 0), (4, 8.0, 1)])
def test_threads_that_have_no_image_are_no_slowness(
    images: int, seconds: float, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of four threads takes 2 s for an image, which is one in 0.5 s."""
    pace = Pace(dataclasses.replace(ARITHMETIC, threads=4, thread_pixels=100), FIGURES)
    for _ in range(10):
        pace.note([(10, 10)] * images, seconds)
    assert caplog.text.count("takes 4.0 × as long here") == warnings
