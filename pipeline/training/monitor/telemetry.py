"""Progress of a training run for Prometheus."""

from __future__ import annotations

from pipeline.cluster.telemetry import Metrics
from pipeline.training.monitor.console import RunProgress


class TrainingMetrics:
    """Publishes the progress of the training run in the folder `output`."""

    def __init__(self, output: str) -> None:
        self._metrics = Metrics(output)

    def update(self, progress: RunProgress) -> None:
        """Publish the new progress; the line of metrics only where there is one."""
        metrics, line = self._metrics, progress.line
        metrics.set("transdomain_train_step", progress.step)
        metrics.set("transdomain_train_steps_planned", progress.total)
        metrics.set("transdomain_train_images_per_second", progress.images_per_s)
        if line is None:
            return
        metrics.set("transdomain_train_data_wait_ratio", line["data_wait"])
        metrics.set("transdomain_train_learning_rate", line["learning_rate"])
        for name, value in line["losses"].items():
            metrics.set("transdomain_train_loss", value, name)
        for name, value in line.get("validation", {}).items():
            metrics.set("transdomain_train_validation", value, name)
