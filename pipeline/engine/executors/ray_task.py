"""One function on Ray, in a process like those of the pool that will compute."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import ray

from pipeline.cluster import connection
from pipeline.engine.executors.placement import Demand, default_actors, waiting_line

_WAIT_S = 30.0
"""Seconds without a result, after which the log says what holds the places."""

log = logging.getLogger("transdomain")

T = TypeVar("T")


def call(function: Callable[[int], T], *, device: str, cpus: float | None, gpus: float | None) -> T:
    """Return what `function` returns in a task of the connected cluster; raise what it raises.

    It is given the default size of a pool. The task books `cpus`, by default 1, or as many as the largest node has,
    and, unless `device` is cpu, `gpus`: by default one where there are any.
    """
    nodes = connection.nodes()
    # What does not fit is refused before the first unit.
    cpus = min(1.0 if cpus is None else cpus, max(node.get("CPU", 0.0) for node in nodes))
    if gpus is None:
        gpus = float(device != "cpu" and any(node.get("GPU", 0) for node in nodes))
    demand = Demand(name="translate", cpus=cpus, gpus=gpus)

    @ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=1)
    def task() -> T:
        return function(default_actors(gpus, nodes))

    result = task.remote()
    while not ray.wait([result], timeout=_WAIT_S)[0]:
        if line := waiting_line([demand], connection.nodes(), connection.free()):
            log.warning(line)
        else:
            log.info("still at it; to compile the model takes a minute or two, and is done once on a machine")
    try:
        return ray.get(result)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause or error) from None
