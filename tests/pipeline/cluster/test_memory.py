from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pipeline.cluster import host

ROOT = Path(__file__).parents[3]

IDLE = """
import time
import numpy as np
from pipeline.cluster import memory

memory.IDLE_S = 0.5

def held_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

before = held_mb()
with memory.at_work():
    images = [np.ones(3_000_000, np.uint8) for _ in range(100)]
    del images
    kept = held_mb() - before
with memory.at_work():
    time.sleep(1)
    busy = held_mb() - before
time.sleep(1)
print(kept > 250, busy > 250, held_mb() - before < 50)
"""


def test_a_process_gives_memory_back_once_it_is_idle() -> None:
    """It is started as Ray's workers are, which keep what they free."""
    environment = os.environ | host.WORKER_ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", IDLE], capture_output=True, text=True, env=environment, check=True)
    assert ended.stdout.split() == ["True", "True", "True"]
