"""Placement of a run's stages on a cluster, and advice on which options to lower where they do not fit.

Plain functions over plain data. All of this must fit at once: every actor of the pools that start and, next to them,
one task of each other stage. A pool's actors keep their resources to the end, on whichever node they were placed. So no
choice of nodes for them may leave another stage without resources.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from pipeline.engine.publishing.steps import Stage
from pipeline.engine.records.limits import decoded_mb
from pipeline.errors import UserError

Nodes = Sequence[Mapping[str, float]]
"""Resources of each node: CPU, GPU and so on."""

_ROUNDING = 1e-9
_GRAIN = 0.01
"""Step of advised CPUs: hundredths."""
_MOST_HALVINGS = 6
"""Times that the memory of the stages is halved in search of an advice."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """Resources that one stage takes of the cluster."""

    name: str
    cpus: float
    gpus: float = 0.0
    memory: int = 0
    """Bytes of one actor or task."""
    actors: int = 0
    """Number of actors that start at once and stay; 0 for a stage of tasks, which needs room for one at a time."""
    cpus_option: str = ""
    """Command-line option that sets `cpus`."""
    actors_option: str = ""

    @property
    def each(self) -> dict[str, float]:
        """Return the resources of one actor or task, by name."""
        found = {"CPU": self.cpus, "GPU": self.gpus, "memory": float(self.memory)}
        return {name: amount for name, amount in found.items() if amount or name == "CPU"}

    def __str__(self) -> str:
        each = _amounts(self.each)
        return f"{self.name}: {self.actors} actor(s) of {each}" if self.actors else f"{self.name}: {each}"


def sized(stage: Stage, nodes: Nodes) -> Stage:
    """Return a stage whose pool has a size and its actors their CPUs, by the nodes where the user leaves them open.

    By default there is an actor for each GPU, on CPUs one for each node that has any, and each books half the CPUs of
    the smallest node (1 beside a GPU), or less where a decoding and an encoding task would not fit beside it.
    """
    if stage.actors is None:
        return stage
    smallest, largest = stage.actors
    if smallest is None:
        smallest = 1 if largest else default_actors(stage.gpus, nodes)
    cpus = stage.cpus
    if cpus is None:
        least = min((node["CPU"] for node in nodes if node.get("CPU")), default=0.0)
        cpus = 1.0 if stage.gpus else max(0.0, min(least / 2, least - 1))
    return replace(stage, cpus=cpus, actors=(smallest, max(smallest, largest or smallest)))


def default_actors(gpus: float, nodes: Nodes) -> int:
    """Return the number of actors of so many GPUs each that `nodes` have room for; without GPUs one a node."""
    if gpus:
        return max(1, sum(int(node.get("GPU", 0) / gpus + _ROUNDING) for node in nodes))
    return max(1, sum(1 for node in nodes if node.get("CPU")))


def demand_of(stage: Stage) -> Demand:
    """Return the resources that a sized stage takes from the start; a pool may grow later, where there is room."""
    assert stage.cpus is not None
    return Demand(
        name=stage.name,
        cpus=stage.cpus,
        gpus=stage.gpus,
        memory=stage.memory,
        actors=(stage.actors[0] or 1) if stage.actors else 0,
        cpus_option=stage.cpus_option,
        actors_option=stage.actors_option,
    )


def check_placement(demands: Sequence[Demand], nodes: Nodes) -> None:
    """Check that the stages find their resources on `nodes`, and keep finding them.

    Raises UserError that names the stage without resources, and options with which all stages fit. A run that started
    anyway would hang in silence.
    """
    homeless = without_place(demands, nodes)
    if homeless is None:
        return
    advised = advise(demands, nodes)
    what = "lower what the stages take or use a larger cluster"
    if advised is not None:
        what = f"this fits: {' '.join(_flags(demands, advised)) or 'fewer CPUs for each stage'}"
    elif homeless.gpus and not any(node.get("GPU", 0) >= homeless.gpus for node in nodes):
        what = f"no node has {homeless.gpus:g} GPU: use --device cpu or a cluster with GPUs"
    raise UserError(
        f"stage {homeless.name} ({_amounts(homeless.each)}) cannot be placed beside the others "
        f"({'; '.join(map(str, demands))}): the cluster has {_has(nodes)}; {what}"
    )


def without_place(demands: Sequence[Demand], nodes: Nodes) -> Demand | None:
    """Return a stage that finds no resources, or may find none once the pools have theirs; None where all are safe."""
    left = [dict(node) for node in nodes]
    # Stages that need a GPU come first, then the largest; nodes without GPUs are filled first.
    for demand in sorted(demands, key=lambda each: (-each.gpus, -each.cpus)):
        for _ in range(demand.actors or 1):
            room = [node for node in left if _fits(demand.each, node)]
            if not room:
                return demand
            _take(min(room, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0))), demand.each)
    pools = [demand for demand in demands if demand.actors]
    for demand in demands:
        # Each actor of a pool may be in the way of everything but itself.
        others = [(pool.each, pool.actors - (pool is demand)) for pool in pools]
        if _can_be_blocked(demand.each, others, nodes):
            return demand
    return None


def waiting_line(demands: Sequence[Demand], nodes: Nodes, free: Nodes) -> str | None:
    """Return a line about a stage that does not fit into what is `free` of `nodes`; None where every stage would.

    For a run in which nothing is at work: its own pools leave room for its tasks.
    """
    for demand in demands:
        if not any(_fits(demand.each, node) for node in free):
            return (
                f"waiting for a place for stage {demand.name} ({_amounts(demand.each)}): of {_has(nodes)} "
                f"{_amounts(_total(free))} is free now; other jobs, or an entry point that books CPUs, hold the rest"
            )
    return None


def advise(demands: Sequence[Demand], nodes: Nodes) -> list[Demand] | None:
    """Return the same stages, lowered as little as possible until they fit; None where nothing helps.

    The pools are lowered first, then the CPUs of all stages alike.
    """
    return next((lowered for lowered in _lowered(demands) if without_place(lowered, nodes) is None), None)


def _lowered(demands: Sequence[Demand]) -> Iterator[list[Demand]]:
    most = max((demand.actors for demand in demands), default=0)
    fewer = [[_at_most(demand, actors) for demand in demands] for actors in range(most - 1, 0, -1)]
    yield from fewer
    least = fewer[-1] if fewer else list(demands)
    for halvings in range(1, _MOST_HALVINGS):
        yield [replace(demand, memory=demand.memory >> halvings) for demand in demands]
    for percent in chain(range(95, 5, -5), range(5, 0, -1)):
        yield [replace(demand, cpus=_rounded(demand.cpus * percent / 100)) for demand in least]


def _at_most(demand: Demand, actors: int) -> Demand:
    return replace(demand, actors=min(demand.actors, actors))


def _rounded(cpus: float) -> float:
    return max(_GRAIN, round(math.floor(cpus / _GRAIN + _ROUNDING) * _GRAIN, 2)) if cpus else 0.0


def _flags(demands: Sequence[Demand], advised: Sequence[Demand]) -> Iterator[str]:
    for before, after in zip(demands, advised, strict=True):
        if after.actors != before.actors and before.actors_option:
            yield f"{before.actors_option} {after.actors}"
        if after.cpus != before.cpus and before.cpus_option:
            yield f"{before.cpus_option} {after.cpus:g}"
    least = min((after.memory for before, after in zip(demands, advised, strict=True) if after.memory), default=0)
    if [demand.memory for demand in demands] != [demand.memory for demand in advised]:
        yield f"--limits.decoded_mb {decoded_mb(least):g}"


def _can_be_blocked(need: Mapping[str, float], pools: Sequence[tuple[Mapping[str, float], int]], nodes: Nodes) -> bool:
    """Return True where so many actors of the pools can be placed so that no node has room for `need`.

    Exact for one pool. For several, each actor is assumed to be as large as the largest in every resource, which errs
    on the side of caution.
    """
    largest: dict[str, float] = {}
    for each, _ in pools:
        for resource, amount in each.items():
            largest[resource] = max(largest.get(resource, 0.0), amount)
    count = sum(count for _, count in pools)
    blocking = 0
    for node in nodes:
        least = _least_to_block(need, largest, node)
        if least is None:
            return False
        blocking += least
    return blocking <= count


def _least_to_block(need: Mapping[str, float], each: Mapping[str, float], node: Mapping[str, float]) -> int | None:
    """Return how many actors on a node leave no room for `need`; None where as many as fit on it leave some."""
    left, actors = dict(node), 0
    while _fits(need, left):
        if not each or not _fits(each, left):
            return None
        if not any(each.get(resource, 0) for resource in need):
            return None
        _take(left, each)
        actors += 1
    return actors


def _fits(need: Mapping[str, float], node: Mapping[str, float]) -> bool:
    return all(node.get(resource, 0.0) + _ROUNDING >= amount for resource, amount in need.items())


def _take(node: dict[str, float], need: Mapping[str, float]) -> None:
    for resource, amount in need.items():
        node[resource] = node.get(resource, 0.0) - amount


def _has(nodes: Nodes) -> str:
    return f"{_amounts(_total(nodes))} on {len(nodes)} node(s)"


def _total(nodes: Nodes) -> dict[str, float]:
    return {resource: sum(node.get(resource, 0.0) for node in nodes) for resource in ("CPU", "GPU", "memory")}


def _amounts(resources: Mapping[str, float]) -> str:
    named = [
        f"{amount / 1e9:.1f} GB of memory" if name == "memory" else f"{amount:g} {name}"
        for name, amount in sorted(resources.items())
        if amount
    ]
    return ", ".join(named) or "nothing"
