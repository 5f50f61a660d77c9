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


STORE = """
import mmap, os
import numpy as np
from pathlib import Path
from pipeline.cluster import memory

def shared_mb():
    [line] = [line for line in open("/proc/self/status") if line.startswith("RssShmem")]
    return int(line.split()[1]) * 1024 / 1e6

path = "/dev/shm/plasmaTesting"
with open(path, "wb+") as file:
    file.truncate(60_000_000)
    store = np.frombuffer(mmap.mmap(file.fileno(), 60_000_000), np.uint8)
os.unlink(path)
store[...] = np.arange(60_000_000) % 251
sums = [int(store.sum())]
touched = shared_mb()
memory.let_go_of_store()
left = shared_mb()
sums.append(int(store.sum()))
print(touched > 59, left < 1, sums[0] == sums[1] > 0)
"""


def test_pages_of_the_object_store_leave_a_process_and_come_back_whole() -> None:
    """Ray maps its store as a file of such a name that has no link any more."""
    ended = subprocess.run(
        [sys.executable, "-c", STORE], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert ended.stdout.split() == ["True", "True", "True"], ended.stderr
