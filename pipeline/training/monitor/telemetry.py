"""How far a training run is, for Prometheus."""

from __future__ import annotations

from pipeline.cluster.telemetry import Metrics
from pipeline.training.monitor.console import RunProgress


class TrainingMetrics:
    """Tells where the training run in the folder `output` stands."""

    def __init__(self, output: str) -> None:
        self._told = Metrics(output)

    def show(self, standing: RunProgress) -> None:
        """Pass on what is new; the line of metrics only where there is one."""
        told, line = self._told, standing.line
        told.set("transdomain_train_step", standing.step)
        told.set("transdomain_train_steps_planned", standing.total)
        told.set("transdomain_train_images_per_second", standing.images_per_s)
        if line is None:
            return
        told.set("transdomain_train_data_wait_ratio", line["data_wait"])
        told.set("transdomain_train_learning_rate", line["learning_rate"])
        for name, value in line["losses"].items():
            told.set("transdomain_train_loss", value, name)
        for name, value in line.get("validation", {}).items():
            told.set("transdomain_train_validation", value, name)
