"""Start Ray inside this process, or join the cluster that is there; prove that the stages of a run can be placed."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import ray

from pipeline import hardware
from pipeline.errors import UserError

OBJECT_STORE_BYTES = 2 * 10**9
"""Shared memory of the embedded Ray, at most; a third of the free memory where that is less."""

_QUIET_LOGGERS = ("ray", "ray.data", "ray.train", "ray.tune")


@contextlib.contextmanager
def connect() -> Iterator[None]:
    """Ray, for the length of a `with` block.

    With `RAY_ADDRESS` set, or under `ray job submit`, the cluster that is there; otherwise one inside this process,
    which listens on loopback alone and ends with it. Inside an outer `connect` the outer one is used.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    if joins():
        ray.init(log_to_driver=True, logging_level=logging.WARNING)
    else:
        # Token authentication would write a token into the home, which a later `ray start` would then demand.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        os.environ.update({k: v for k, v in hardware.MALLOC_ENVIRONMENT.items() if k not in os.environ})
        ray.init(
            address="local",
            num_cpus=hardware.available_cpus(),
            object_store_memory=min(OBJECT_STORE_BYTES, _free_memory() // 3),
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            log_to_driver=True,
            logging_level=logging.WARNING,
        )
    try:
        yield
    finally:
        ray.shutdown()


def joins() -> bool:
    """Whether there is a cluster to join, and Ray is not embedded in this process."""
    return bool(os.environ.get("RAY_ADDRESS"))


def nodes() -> list[dict[str, float]]:
    """Resources of each living node: CPU, GPU, memory and so on."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def check_placement(demands: Mapping[str, Mapping[str, float]], available: Sequence[Mapping[str, float]]) -> None:
    """Prove that one task of every stage fits on the cluster at the same time.

    `demands` maps a stage's name to what one task of it takes; `available` is `nodes()`. A pure function. Raises
    UserError naming the stage that finds no place: started anyway, the run would hang in silence.
    """
    left = [dict(node) for node in available]
    for name, need in sorted(demands.items(), key=lambda item: -sum(item[1].values())):
        for node in left:
            if all(node.get(resource, 0.0) + 1e-9 >= amount for resource, amount in need.items()):
                for resource, amount in need.items():
                    node[resource] = node.get(resource, 0.0) - amount
                break
        else:
            total = {r: sum(node.get(r, 0.0) for node in available) for stage in demands.values() for r in stage}
            raise UserError(
                f"stage {name} ({_amounts(need)}) cannot be placed beside the others: one task of each stage takes "
                f"{_amounts(_sum(demands))}, the cluster has {_amounts(total)} on {len(available)} node(s); "
                "lower what the stages take or use a larger cluster"
            )


def _sum(demands: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for need in demands.values():
        for resource, amount in need.items():
            total[resource] = total.get(resource, 0.0) + amount
    return total


def _amounts(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in sorted(resources.items()) if amount) or "nothing"


def _free_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
