"""What a worker takes, and whether the cluster has room for all of them. Plain functions over plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config.train import TrainConfig
from pipeline.errors import UserError

Nodes = Sequence[Mapping[str, float]]
"""Resources of each node: CPU, GPU and so on."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What each worker takes."""

    workers: int
    least: int
    """Workers that must find a place at the start."""
    cpus: float
    gpus: int

    @property
    def threads(self) -> int:
        """Torch's threads in a worker."""
        return max(1, int(self.cpus))

    @property
    def demand(self) -> dict[str, float]:
        """By resource."""
        return {"CPU": self.cpus} | ({"GPU": float(self.gpus)} if self.gpus else {})


def place(config: TrainConfig, nodes: Nodes) -> Placement:
    """Resources of each worker, chosen where the configuration leaves them open.

    Raises UserError where the workers do not fit on the cluster at once: started anyway, they would wait for ever.
    """
    gpus = config.gpus_per_worker
    if gpus is None:
        gpus = 1 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0
    cpus = config.cpus_per_worker
    if cpus is None:
        most = int(max((node.get("CPU", 0) for node in nodes), default=0))
        fitting = (c for c in range(most, 0, -1) if _room(nodes, {"CPU": c, "GPU": gpus}) >= config.workers)
        cpus = next(fitting, 1)
    placement = Placement(workers=config.workers, least=config.min_workers or config.workers, cpus=cpus, gpus=gpus)
    room = _room(nodes, placement.demand)
    if room < placement.least:
        has = ", ".join(f"{sum(node.get(r, 0) for node in nodes):g} {r}" for r in ("CPU", "GPU"))
        takes = ", ".join(f"{amount:g} {resource}" for resource, amount in placement.demand.items())
        raise UserError(
            f"{'min_workers' if config.min_workers else 'workers'} is {placement.least}, each takes {takes}: "
            f"the cluster ({has} on {len(nodes)} node(s)) has room "
            f"for {room}; lower workers, cpus_per_worker or gpus_per_worker, or use a larger cluster"
        )
    return placement


def _room(nodes: Nodes, demand: Mapping[str, float]) -> int:
    """How many workers fit, each on one node."""
    return sum(
        int(min((node.get(resource, 0) + 1e-9) // amount for resource, amount in demand.items() if amount))
        for node in nodes
    )
