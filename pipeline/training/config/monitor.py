"""Outputs of a training run's metrics and sample grids, and the check that ends a diverging run early."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import check_range


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """Monitoring of a run. RUN/metrics.jsonl is always written."""

    tensorboard: bool = True
    """Write RUN/tensorboard; view it with `tensorboard --logdir RUN/tensorboard`."""

    mlflow: str = ""
    """Tracking URI and, after a #, the experiment: http://host:5000#faces. Needs the extra `mlflow`."""

    wandb: str = ""
    """Project of Weights & Biases, or ENTITY/PROJECT. Needs the extra `wandb`; rank 0 must have WANDB_API_KEY."""

    sample_every: int = 1000
    """Steps from one grid of translated samples to the next; 0 draws none."""

    explosion: float = 1000.0
    """End the run at a loss this many times its recent median, naming the last good checkpoint; 0 never ends it."""

    def __post_init__(self) -> None:
        check_range("watch.sample_every", self.sample_every, least=0)
        check_range("watch.explosion", self.explosion or None, above=1)
