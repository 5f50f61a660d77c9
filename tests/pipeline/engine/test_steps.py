"""Steps of a unit whose stage is made ahead of it."""

from __future__ import annotations

import threading
from typing import Any

from pipeline.engine.publishing.commit import Sink
from pipeline.engine.publishing.steps import InFlight, Receipt, Stage, Task, Workload, make_step
from pipeline.engine.records.account import Batch
from pipeline.engine.records.layout import Output
from pipeline.engine.records.units import Unit

UNIT = Unit("000000-000000", ())


class Machine:
    """Machine on which loading a model fails a number of times."""

    def __init__(self, fails: int) -> None:
        self.fails, self.made, self.over = fails, 0, threading.Event()

    def make(self) -> Any:
        self.made += 1
        try:
            if self.made <= self.fails:
                raise MemoryError("full")
            return lambda batch: batch
        finally:
            self.over.set()

    def step(self) -> Any:
        stages = tuple(Stage(name=name, make=self.make, stall_s=60) for name in ("translate", "encode"))
        work = Workload(output=Output("memory://steps"), fingerprint="", stages=stages, sink=Sink())
        return make_step([work], 0, ahead=True)


def given() -> InFlight:
    return InFlight(Task(0, UNIT.id), (Batch(UNIT, None),), 0.0)  # type: ignore[arg-type]


def test_it_is_made_before_the_first_unit_comes_and_once() -> None:
    machine = Machine(0)
    step = machine.step()
    assert machine.over.wait(10)
    assert [type(step(given())) for _ in range(2)] == [InFlight] * 2
    assert machine.made == 1


def test_what_fails_ahead_is_tried_again_and_fails_the_unit() -> None:
    machine = Machine(2)
    step = machine.step()
    assert machine.over.wait(10)
    failed = step(given())
    assert isinstance(failed, Receipt)
    assert (failed.status, failed.error) == ("failed", "unit 000000-000000, translate: MemoryError: full")
    assert isinstance(step(given()), InFlight)
