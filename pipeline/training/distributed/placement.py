"""Resources of a worker, and a check that the cluster has room for all workers.

These are plain functions over plain data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import UserError
from pipeline.training.config.train import TrainConfig

Nodes = Sequence[Mapping[str, float]]
"""Resources of each node: CPU, GPU and so on."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Resources that each worker takes."""

    workers: int
    least: int
    """Number of workers that must fit at the start."""
    cpus: float
    gpus: int

    @property
    def threads(self) -> int:
        """Number of torch's threads in a worker."""
        return max(1, int(self.cpus))

    @property
    def demand(self) -> dict[str, float]:
        """Amount of each resource."""
        return _demand(self.cpus, self.gpus)


def place(config: TrainConfig, nodes: Nodes) -> Placement:
    """Choose the resources of each worker where the configuration leaves them open.

    Raises UserError where the workers do not fit on the cluster at once, since they would wait forever if started
    anyway.
    """
    gpus = config.gpus_per_worker
    if gpus is None:
        gpus = 1 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0
    cpus = config.cpus_per_worker
    if cpus is None:
        largest_cpus = int(max((node.get("CPU", 0) for node in nodes), default=0))
        fitting = (c for c in range(largest_cpus, 0, -1) if _room(nodes, _demand(c, gpus)) >= config.workers)
        cpus = next(fitting, 1)
    placement = Placement(workers=config.workers, least=config.min_workers or config.workers, cpus=cpus, gpus=gpus)
    room = _room(nodes, placement.demand)
    if room < placement.least:
        raise UserError(
            f"{'min_workers' if config.min_workers else 'workers'} is {placement.least}, each takes "
            f"{describe(placement.demand)}: the cluster ({_totals(nodes)}) has room "
            f"for {room}; lower workers, cpus_per_worker or gpus_per_worker, or use a larger cluster"
        )
    return placement


def waiting_line(placement: Placement, nodes: Nodes, free: Nodes) -> str | None:
    """Return a line about workers that do not fit in what is `free` of `nodes`; None where they fit."""
    room = _room(free, placement.demand)
    if room >= placement.least:
        return None
    return (
        f"waiting for places of {placement.least} worker(s), each takes {describe(placement.demand)}: of "
        f"{_totals(nodes)} there is room for {room} now; other jobs, or an entry point that books CPUs, hold the rest"
    )


def describe(demand: Mapping[str, float]) -> str:
    """Return amounts by resource, for people."""
    return ", ".join(f"{amount:g} {resource}" for resource, amount in demand.items())


def _demand(cpus: float, gpus: int) -> dict[str, float]:
    return {"CPU": cpus} | ({"GPU": float(gpus)} if gpus else {})


def _totals(nodes: Nodes) -> str:
    amounts = {resource: sum(node.get(resource, 0) for node in nodes) for resource in ("CPU", "GPU")}
    return f"{describe(amounts)} on {len(nodes)} node(s)"


def _room(nodes: Nodes, demand: Mapping[str, float]) -> int:
    """Return how many workers fit, each on one node."""
    return sum(
        int(min((node.get(resource, 0) + 1e-9) // amount for resource, amount in demand.items() if amount))
        for node in nodes
    )
