"""Cores of this machine, and the environment of processes that compute. Every worker imports it: it has no torch."""

from __future__ import annotations

import os

WORKER_ENVIRONMENT = {
    # By default glibc returns large blocks to the kernel at every free; keeping them is up to 1.5 × faster on a CPU.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "1000000000000",
    "MALLOC_TOP_PAD_": "268435456",
    # By default threads of OpenMP spin while they wait for each other, which takes the cores from those they wait for
    # where other processes compute, decode or encode beside them: a network of two threads was three times slower then.
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""Variables that a process must have before it starts; what the user has set wins."""


def available_cpus() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))
