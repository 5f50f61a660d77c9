"""Plain loop of the engine: the same steps, one unit after the other, in this process. For tests and debuggers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.engine.publishing.steps import InFlight, Receipt, Task, Work, make_step


def execute(works: Sequence[Work], tasks: Sequence[Task]) -> Iterator[Receipt]:
    """Carry every task through every stage; yield a receipt as each unit ends."""
    steps = [make_step(list(works), i) for i in range(len(works[0].stages))]
    for task in tasks:
        item: Task | InFlight | Receipt = task
        for step in steps:
            item = step(item)
        assert isinstance(item, Receipt)
        yield item
