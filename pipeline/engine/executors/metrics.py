"""Counts of units and images of a run on Ray, for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pipeline.cluster.telemetry import Metrics
from pipeline.engine.publishing.steps import Receipt, Task, Workload


def counted(receipts: Iterator[Receipt], workloads: Sequence[Workload], tasks: Sequence[Task]) -> Iterator[Receipt]:
    """Yield the receipts of `tasks` as they come, each counted under its output."""
    metrics = [Metrics(work.output.url) for work in workloads]
    for i, planned in Counter(task.work for task in tasks).items():
        metrics[i].set("transdomain_units_planned", planned)
    for receipt in receipts:
        output = metrics[receipt.task.work]
        output.add("transdomain_units_total", 1, receipt.status)
        for outcome in ("ok", "quarantined", "skipped"):
            output.add("transdomain_images_total", getattr(receipt, outcome), outcome)
        yield receipt
