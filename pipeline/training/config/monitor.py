"""Where the metrics and pictures of a training run go, and what stops it early on."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import check_range


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """How a run is watched. RUN/metrics.jsonl is written always."""

    tensorboard: bool = True
    """Write RUN/tensorboard; look at it with `tensorboard --logdir RUN/tensorboard`."""

    mlflow: str = ""
    """Tracking URI and, after a #, the experiment: http://host:5000#faces. Needs the extra `mlflow`."""

    wandb: str = ""
    """Project of Weights & Biases, or ENTITY/PROJECT. Needs the extra `wandb`; rank 0 must see WANDB_API_KEY."""

    sample_every: int = 1000
    """Steps from one grid of translated samples to the next; 0 is none."""

    explosion: float = 1000.0
    """A loss this many times its recent median ends the run, naming the last good checkpoint; 0 lets it go on."""

    def __post_init__(self) -> None:
        check_range("watch.sample_every", self.sample_every, least=0)
        check_range("watch.explosion", self.explosion or None, above=1)
