"""Plain loop of the engine: the same steps, one unit after the other, in this process. For tests and debuggers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from pipeline.cluster import watchdog
from pipeline.engine.executors.flow import Flow
from pipeline.engine.executors.progress import Meter
from pipeline.engine.publishing.steps import InFlight, Receipt, Stage, Task, Workload, make_step


def execute(workloads: Sequence[Workload], tasks: Sequence[Task], meter: Meter) -> Iterator[Receipt]:
    """Carry every task through every stage; yield a receipt as each unit ends."""
    stages = workloads[0].stages
    flow = Flow(stages[-1].name)
    meter.look = flow.snapshot

    @contextlib.contextmanager
    def guard(task: Task, stage: Stage) -> Iterator[None]:
        flow.begin(*task, stage.name)
        with watchdog.counted(lambda rows: flow.advance(*task, stage.name, rows)) as done:
            yield
        flow.end(*task, stage.name, done())

    steps = [make_step(list(workloads), i, guard) for i in range(len(stages))]
    for task in tasks:
        item: Task | InFlight | Receipt = task
        for step in steps:
            item = step(item)
        assert isinstance(item, Receipt)
        flow.forget(*task)
        yield item
