"""Cores of this machine, and the environment of processes that compute. Every worker imports it: it has no torch."""

from __future__ import annotations

import os

WORKER_ENVIRONMENT = {
    # By default glibc returns large blocks to the kernel at every free; keeping them is up to 1.5 × faster on a CPU.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "1000000000000",
    "MALLOC_TOP_PAD_": "268435456",
    # By default threads of OpenMP spin for milliseconds while they wait for each other, and so keep the cores from
    # those that they wait for, where other processes decode or encode beside them. docs/performance.md has figures.
    "GOMP_SPINCOUNT": "10000",
}
"""Variables that a process must have before it starts; what the user has set wins."""


def available_cpus() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def may_have_gpu() -> bool:
    """Return False where this machine certainly has no NVIDIA or AMD GPU. Loads no library for it."""
    return os.path.exists("/dev/kfd") or any(name.startswith(("nvidia", "dxg")) for name in os.listdir("/dev"))
