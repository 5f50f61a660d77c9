"""Plain loop of the engine: the same steps, one unit after the other, in this process. For tests and debuggers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.engine.publishing.steps import InFlight, Receipt, Task, Workload, make_step


def execute(workloads: Sequence[Workload], tasks: Sequence[Task]) -> Iterator[Receipt]:
    """Carry every task through every stage; yield a receipt as each unit ends."""
    steps = [make_step(list(workloads), i) for i in range(len(workloads[0].stages))]
    for task in tasks:
        item: Task | InFlight | Receipt = task
        for step in steps:
            item = step(item)
        assert isinstance(item, Receipt)
        yield item
