"""Driver that reports every metric once and stays until it has been scraped; test_local_cluster runs it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.cluster import connection
from pipeline.engine.executors.metrics import counted
from pipeline.engine.publishing.commit import Sink
from pipeline.engine.publishing.steps import Receipt, Task, Workload
from pipeline.engine.records.layout import Output
from pipeline.training.monitor.console import RunProgress
from pipeline.training.monitor.telemetry import TrainingMetrics

OUTPUT = "s3://bucket/out"
TASKS = [Task(0, f"000000-00000{i}") for i in range(3)]
RECEIPTS = [
    Receipt(TASKS[0], "done", inputs=10, ok=7, quarantined=2, skipped=1),
    Receipt(TASKS[1], "done", inputs=4, ok=4),
    Receipt(TASKS[2], "failed", error="why"),
]
STANDING = RunProgress(
    step=30,
    total=100,
    epoch=1,
    epochs=2,
    images_per_s=4.5,
    line={
        "step": 30,
        "data_wait": 0.25,
        "learning_rate": 2e-4,
        "losses": {"g_l1": 1.5, "d": 0.5},
        "validation": {"kid": 0.125},
    },
)


def tell() -> Iterator[Receipt]:
    """Report every metric; pass the receipts on."""
    TrainingMetrics(OUTPUT).update(STANDING)
    work = Workload(output=Output(OUTPUT), fingerprint="", stages=(), sink=Sink())
    return counted(iter(RECEIPTS), [work], TASKS)


if __name__ == "__main__":
    with connection.connect():
        assert list(tell()) == RECEIPTS
        while not Path(sys.argv[1]).exists():
            time.sleep(0.2)
