"""Numbers for Prometheus, from the driver of a run: how far it is and how fast, beside what Ray says of its nodes.

They leave through the metrics agent of the driver's node, which puts `ray_` in front of each name. What exists is the
plain data of METRICS, so that dashboards can be checked against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from ray.util import metrics

from pipeline.errors import redact


class Metric(NamedTuple):
    """What one name stands for. Every metric has the label `output`, beside those given here."""

    kind: Literal["counter", "gauge"]
    about: str
    label: str = ""


METRICS: Mapping[str, Metric] = {
    "transdomain_images_total": Metric("counter", "Images accounted for: ok, quarantined or skipped.", "outcome"),
    "transdomain_units_total": Metric("counter", "Units ended: done, present (somebody else's) or failed.", "status"),
    "transdomain_units_planned": Metric("gauge", "Units that this run set out to do."),
    "transdomain_train_step": Metric("gauge", "Optimiser steps done, earlier starts included."),
    "transdomain_train_steps_planned": Metric("gauge", "Optimiser steps of the whole run."),
    "transdomain_train_images_per_second": Metric("gauge", "Images, or pairs, a second over all workers."),
    "transdomain_train_data_wait_ratio": Metric("gauge", "Share of the time in which rank 0 waited for data, 0 to 1."),
    "transdomain_train_learning_rate": Metric("gauge", "Learning rate of the last step."),
    "transdomain_train_loss": Metric("gauge", "Each loss at the last log step, over all ranks.", "loss"),
    "transdomain_train_validation": Metric("gauge", "Each score on held-out images, when last measured.", "score"),
}


class Metrics:
    """The metrics of one output, each registered with Ray when it is first told."""

    def __init__(self, output: str) -> None:
        self._output = redact(output)
        self._made: dict[str, Any] = {}

    def set(self, name: str, value: float, label: str = "") -> None:
        self._metric(name).set(value, tags=self._tags(name, label))

    def add(self, name: str, amount: float, label: str = "") -> None:
        if amount:  # Ray refuses to count by nothing
            self._metric(name).inc(amount, tags=self._tags(name, label))

    def _tags(self, name: str, label: str) -> dict[str, str]:
        return {"output": self._output} | ({METRICS[name].label: label} if METRICS[name].label else {})

    def _metric(self, name: str) -> Any:
        if name not in self._made:
            kind, about, label = METRICS[name]
            made = {"counter": metrics.Counter, "gauge": metrics.Gauge}[kind]
            self._made[name] = made(name, description=about, tag_keys=("output", label) if label else ("output",))
        return self._made[name]
