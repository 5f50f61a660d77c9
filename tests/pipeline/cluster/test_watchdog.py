"""Watchdog, in processes of its own that it may end."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
