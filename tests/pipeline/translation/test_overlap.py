"""Units at once in an actor: its device, here a fake one, does not wait while other units come and go."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.engine.records.account import Batch
from pipeline.models.arithmetic import AT_ONCE, NOTHING_MEASURED, exact
from pipeline.models.translator import Translator
from pipeline.translation.frames import frames_of
from pipeline.translation.pace import Pace
from pipeline.translation.stages import Translate
from tests.frames import batch_of

GROUPS, GROUP_S = 5, 0.08
"""Groups of a unit, and the seconds that the device takes for one."""
COMING_S = GOING_S = 0.15
"""Seconds of a unit on its way to the device, and on its way back."""
UNITS = 8


class Span(NamedTuple):
    began: float
    ended: float


class Device:
    """Network that takes its time, for one group after the other, as a GPU does."""

    def __init__(self) -> None:
        self.lock, self.spans = threading.Lock(), list[Span]()

    def __call__(self, pixels_NCHW: torch.Tensor) -> torch.Tensor:
        with self.lock:
            began = time.perf_counter()
            time.sleep(GROUP_S)
            self.spans.append(Span(began, time.perf_counter()))
        return -pixels_NCHW

    @property
    def busy(self) -> float:
        """Return the share of the time, from its first group to its last one, that it has computed."""
        return sum(span.ended - span.began for span in self.spans) / (self.spans[-1].ended - self.spans[0].began)


def unit(number: int) -> Batch:
    frames = list(np.random.default_rng(number).integers(0, 256, (4 * GROUPS, 8, 8, 3), np.uint8))
    return batch_of(pa.table({"key": [str(i) for i in range(len(frames))]}), frames, f"000000-{number:06d}")


def stage_on(device: Device) -> Translate:
    arithmetic = exact("cpu", batch=4)
    stage = object.__new__(Translate)  # without a bundle
    stage.judges, stage.keep_if = None, ""
    stage.translator, stage.pace = Translator(device, arithmetic), Pace(arithmetic, NOTHING_MEASURED)
    return stage


@pytest.mark.parametrize(("at_once", "least", "most"), [(AT_ONCE["cuda"], 0.9, 1.0), (1, 0.0, 0.75)])
def test_the_device_waits_for_nothing_else_where_all_else_takes_less(at_once: int, least: float, most: float) -> None:
    device = Device()
    stage = stage_on(device)

    def call(number: int) -> Batch:
        batch = unit(number)
        time.sleep(COMING_S)
        made = stage(batch)
        time.sleep(GOING_S)
        return made

    with ThreadPoolExecutor(at_once) as actor:
        made = list(actor.map(call, range(UNITS)))
    assert COMING_S + GOING_S < GROUPS * GROUP_S
    assert len(device.spans) == UNITS * GROUPS
    assert least <= device.busy <= most
    for number, batch in enumerate(made):  # none has taken pixels of another
        given, before = (frames_of(each, stage.translator.gives) for each in (batch, unit(number)))
        differences = [
            np.abs(after.astype(int) - (255 - frame)).max() for after, frame in zip(given, before, strict=True)
        ]
        assert max(differences) <= 1
