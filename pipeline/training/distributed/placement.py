"""What a worker takes, what validation beside them takes, and whether the cluster has room for all of it.

Plain functions over plain data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.errors import UserError
from pipeline.training.config.train import TrainConfig

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
    validator: Mapping[str, float] | None = None
    """What validation beside training takes, by resource; None where it is inline, or there is none."""

    @property
    def threads(self) -> int:
        """Torch's threads in a worker."""
        return threads_of(self.cpus)

    @property
    def demand(self) -> dict[str, float]:
        """By resource."""
        return _demand(self.cpus, self.gpus)


def threads_of(cpus: float) -> int:
    """Torch's threads in a process that takes so many CPUs."""
    return max(1, int(cpus))


def place(config: TrainConfig, nodes: Nodes) -> Placement:
    """Resources of each worker, chosen where the configuration leaves them open, and of validation beside them.

    Raises UserError where the workers do not fit on the cluster at once: started anyway, they would wait for ever; and
    where validation is to be beside them, and there may be no room for it.
    """
    beside = bool(config.validation.input) and config.validation.where == "beside"
    gpus = config.gpus_per_worker
    if gpus is None:
        gpus = 1 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0
    cpus = config.cpus_per_worker
    if cpus is None:
        most = int(max((node.get("CPU", 0) for node in nodes), default=0))
        fitting = (c for c in range(most, 0, -1) if _room(nodes, _demand(c, gpus)) >= config.workers)
        if beside:
            fitting = (c for c in fitting if _leaves_room(nodes, _demand(c, gpus), config.workers, _demand(1, gpus)))
        cpus = next(fitting, 1)
    placement = Placement(workers=config.workers, least=config.min_workers or config.workers, cpus=cpus, gpus=gpus)
    room = _room(nodes, placement.demand)
    if room < placement.least:
        raise UserError(
            f"{'min_workers' if config.min_workers else 'workers'} is {placement.least}, each takes "
            f"{describe(placement.demand)}: the cluster ({_has(nodes)}) has room "
            f"for {room}; lower workers, cpus_per_worker or gpus_per_worker, or use a larger cluster"
        )
    if not config.validation.input or config.validation.where == "inline":
        return placement
    validator = _validator(placement, nodes)
    if beside and validator is None:
        raise UserError(
            f"validation.where is beside, which takes {describe(_demand(1, gpus))}: beside {config.workers} worker(s) "
            f"of {describe(placement.demand)} each the cluster ({_has(nodes)}) may have no room for it; "
            "lower workers or cpus_per_worker, set validation.where to inline, or use a larger cluster"
        )
    return replace(placement, validator=validator)


def held_by_others(placement: Placement, nodes: Nodes, free: Nodes) -> str | None:
    """A line about workers that find no place in what is `free` of `nodes`; None where they would."""
    room = _room(free, placement.demand)
    if room >= placement.least:
        return None
    return (
        f"waiting for places of {placement.least} worker(s), each takes {describe(placement.demand)}: of {_has(nodes)} "
        f"there is room for {room} now; other jobs, or an entry point that books CPUs, hold the rest"
    )


def describe(demand: Mapping[str, float]) -> str:
    """Amounts by resource, for people."""
    return ", ".join(f"{amount:g} {resource}" for resource, amount in demand.items())


def _validator(placement: Placement, nodes: Nodes) -> Mapping[str, float] | None:
    """As much as a worker has, or else one CPU and the same GPU; None where the workers may leave no room for that."""
    for demand in (placement.demand, _demand(1, placement.gpus)):
        if _leaves_room(nodes, placement.demand, placement.workers, demand):
            return demand
    return None


def _leaves_room(nodes: Nodes, demand: Mapping[str, float], workers: int, other: Mapping[str, float]) -> bool:
    """Whether `other` fits beside so many workers, on whichever nodes these are put."""
    blocking = 0
    for node in nodes:
        most = int(_room([node], demand))
        enough = (n for n in range(most + 1) if not _room([_less(node, demand, n)], other))
        least = next(enough, None)
        if least is None:
            return True
        blocking += least
    return workers < blocking


def _less(node: Mapping[str, float], demand: Mapping[str, float], workers: int) -> dict[str, float]:
    """What so many workers leave of a node."""
    return {resource: amount - workers * demand.get(resource, 0) for resource, amount in node.items()}


def _demand(cpus: float, gpus: int) -> dict[str, float]:
    return {"CPU": cpus} | ({"GPU": float(gpus)} if gpus else {})


def _has(nodes: Nodes) -> str:
    amounts = {resource: sum(node.get(resource, 0) for node in nodes) for resource in ("CPU", "GPU")}
    return f"{describe(amounts)} on {len(nodes)} node(s)"


def _room(nodes: Nodes, demand: Mapping[str, float]) -> int:
    """How many workers fit, each on one node."""
    return sum(
        int(min((node.get(resource, 0) + 1e-9) // amount for resource, amount in demand.items() if amount))
        for node in nodes
    )
