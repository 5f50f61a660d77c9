"""Watchdog, in processes of its own that it may end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.cluster import watchdog

_SCRIPT = """
import ctypes, time
from pipeline.cluster import watchdog
with watchdog.watched(2.0):
    {work}
time.sleep(2.5)
"""


def end_of(work: str) -> subprocess.CompletedProcess[str]:
    script = _SCRIPT.format(work=work)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize("work", ["time.sleep(60)", "ctypes.PyDLL(None).sleep(60)"])
def test_a_process_that_hangs_is_ended_even_if_it_holds_the_interpreter(work: str) -> None:
    ended = end_of(work)
    assert ended.returncode == 1
    assert "Timeout (0:00:02)!" in ended.stderr


def test_a_process_that_gets_on_is_not_ended() -> None:
    ended = end_of("[(time.sleep(0.5), watchdog.made_progress()) for _ in range(6)]")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_each_thread_counts_the_rows_of_its_own_unit() -> None:
    meet = threading.Barrier(2)

    def work(rows: int) -> int:
        with watchdog.watched(60), watchdog.counted(lambda done: None) as done:
            meet.wait()
            watchdog.made_progress(rows)
            meet.wait()
            return done()

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(work, [3, 5])) == [3, 5]


def test_a_unit_under_suspicion_is_alone() -> None:
    turns, at_work, seen = watchdog.Turns(), set[int](), list[set[int]]()

    def work(unit: int) -> None:
        with turns.turn(alone=unit % 4 == 0):
            at_work.add(unit)
            time.sleep(0.02)
            seen.append(set(at_work))
            at_work.remove(unit)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(12)))
    assert [units for units in seen if any(unit % 4 == 0 for unit in units) and len(units) > 1] == []
    assert max(map(len, seen)) > 1
    assert len(seen) == 12
