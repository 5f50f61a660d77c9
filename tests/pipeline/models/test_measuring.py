"""The fastest form of a network: which are tried, with which images, and which one wins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pipeline.cluster import hardware
from pipeline.models import measuring, native
from pipeline.models.arithmetic import Figures, Form, fastest, slowest_rank

FP32, WINOGRAD, BF16 = Form(precision="fp32"), Form(precision="fp32", trunk="winograd"), Form(precision="bf16")


class Machine:
    """Device on which an image of 256² takes so many seconds in each form, with a clock that only its work moves."""

    def __init__(self, seconds: Mapping[Form, float], images: int = 1) -> None:
        self.seconds, self.images, self.now, self.sides = seconds, images, 0.0, list[int]()

    def make(self, form: Form, side: int, threads: int | None) -> measuring.Pass:
        images = 1 if threads == 1 else self.images

        def run() -> None:
            self.now += images * self.seconds[form] * (side / 256) ** 2
            self.sides.append(side)

        return measuring.Pass(run, images)

    def measure(self, *, threads: int | None = None, small_s: float = 0.0) -> dict[Form, float]:
        """Measure; the clock for all threads counts the work of one of them, where they share it."""
        clocks = measuring.Clocks(lambda: self.now / (threads or 1), lambda: self.now, threads, small_s)
        return measuring.measure(list(self.seconds), self.make, measuring.sides(256, 4, 8), clocks)


@pytest.fixture
def with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "supported_precisions", lambda device: ("fp32", "bf16"))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({FP32: 0.38, WINOGRAD: 0.30, BF16: 0.67}, WINOGRAD),  # an Intel Xeon that names avx512_bf16, without AMX
        ({FP32: 0.51, WINOGRAD: 0.34, BF16: 0.27}, BF16),  # an AMD EPYC that names it
        ({FP32: 0.42, WINOGRAD: 0.41, BF16: 0.405}, FP32),  # a tie
        ({FP32: 0.42, WINOGRAD: 0.30, BF16: 0.29}, WINOGRAD),  # a tie of the fastest
    ],
)
def test_the_fastest_wins_and_a_tie_goes_to_the_simpler(seconds: dict[Form, float], expected: Form) -> None:
    found = Machine(seconds).measure()
    assert found == pytest.approx(seconds)
    assert fastest(found) == expected


def test_the_measurement_takes_seconds_whatever_the_network() -> None:
    slow = Machine({FP32: 9.0, WINOGRAD: 6.0})
    assert slow.measure() == pytest.approx(slow.seconds)
    assert set(slow.sides) == {64}
    assert slow.now < 9
    slower = Machine({FP32: 3.0, WINOGRAD: 6.0})
    slower.measure()
    assert max(slower.sides) == 128


def test_the_seconds_are_those_of_an_image() -> None:
    assert Machine({FP32: 0.4, WINOGRAD: 0.2}, images=4).measure() == pytest.approx({FP32: 0.4, WINOGRAD: 0.2})


def test_an_image_for_each_thread_takes_the_time_of_one_over_the_threads() -> None:
    machine = Machine({FP32: 2.0, WINOGRAD: 1.0}, images=2)
    assert machine.measure(threads=2) == pytest.approx({FP32: 1.0, WINOGRAD: 0.5})
    assert max(machine.sides) == 128  # two images of 256² on two threads take 2 s


def test_a_network_that_takes_no_time_is_left_alone() -> None:
    small = Machine({FP32: 0.009, WINOGRAD: 0.001})
    assert small.measure(small_s=0.01) == pytest.approx({FP32: 0.009})


def test_the_slowest_rank_decides() -> None:
    assert slowest_rank([{FP32: 2.0, BF16: 1.0}, {FP32: 2.5, BF16: 4.0}]) == {FP32: 2.5, BF16: 4.0}
    assert slowest_rank([{FP32: 0.1}, {FP32: 0.2, BF16: 4.0}]) == {FP32: 0.2}


def test_figures_read_as_one_line() -> None:
    figures = Figures(machine="an EPYC", side=256, seconds={"fp32, eager": 1.2345, "bf16, eager": 0.0456})
    assert str(figures) == "bf16, eager 45.6 ms; fp32, eager 1.23 s an image of 256², on an EPYC"


@pytest.mark.usefixtures("with_bf16")
@pytest.mark.parametrize(
    ("where", "asked", "expected"),
    [
        (("cpu", "resnet"), {}, [FP32, WINOGRAD, BF16]),
        (("cpu", "unet"), {}, [FP32, BF16]),
        (("cuda", "resnet"), {}, [FP32, BF16]),
        (("cpu", "resnet"), {"precision": "bf16"}, [BF16]),
        (("cpu", "resnet"), {"trunk": "direct"}, [FP32, BF16]),
        (("cpu", "resnet"), {"trunk": "winograd"}, [WINOGRAD]),
        (("cuda", "resnet"), {"precision": "fp16"}, [Form(precision="fp16")]),
    ],
)
def test_only_what_the_hardware_has_is_tried(
    where: tuple[str, str], asked: Any, expected: list[Form], monkeypatch: pytest.MonkeyPatch
) -> None:
    device, kind = where
    monkeypatch.setattr(native, "is_available", lambda: False)
    assert measuring.forms(device, kind=kind, **asked) == expected


@pytest.mark.parametrize(
    ("where", "asked", "message"),
    [
        (("cpu", "resnet"), {"precision": "fp16"}, r"fp16 is not in the hardware of this cpu .*; use fp32"),
        (
            ("cuda", "resnet"),
            {"precision": "fp32", "trunk": "winograd"},
            r"resnet on cuda in fp32; set trunk to auto$",
        ),
        (
            ("cpu", "unet"),
            {"precision": "fp32", "trunk": "winograd"},
            "unet on cpu in fp32; set trunk to auto or pre",
        ),
    ],
)
def test_what_the_hardware_lacks_is_refused_in_one_line(where: tuple[str, str], asked: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measuring.forms(where[0], kind=where[1], **asked)


def test_fp16_is_never_chosen_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "supported_precisions", lambda device: ("fp32",))
    assert measuring.forms("cuda", kind="resnet") == [FP32]


def test_the_sides_are_those_that_the_network_takes() -> None:
    assert measuring.sides(256, 4, 8) == [256, 128, 64]
    assert measuring.sides(256, 256, 256) == [256]
    assert measuring.sides(20, 4, 8) == [20, 8]
