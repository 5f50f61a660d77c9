"""The exit code is that of the job, whatever threads of libraries still run when it ends."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

from jobs.__main__ import JOBS

READS_WHILE_THE_PROCESS_ENDS = """
import atexit, io, sys, threading, time
import pyarrow as pa, pyarrow.parquet as pq
from jobs.ending import end

class Slow(io.BytesIO):
    def read(self, *size):
        reading.set()
        time.sleep(0.2)
        return super().read(*size)

buffer, reading = io.BytesIO(), threading.Event()
pq.write_table(pa.table({"a": [1, 2, 3]}), buffer)
threading.Thread(target=lambda: pq.ParquetFile(Slow(buffer.getvalue())).read(), daemon=True).start()
reading.wait()
atexit.register(time.sleep, 0.1)
atexit.register(print, "registered for the end")
print("whole")
"""


def _ended(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


@pytest.mark.parametrize("code", [0, 3])
def test_a_thread_of_arrow_that_still_reads_does_not_change_the_exit_code(code: int) -> None:
    ended = _ended(f"{READS_WHILE_THE_PROCESS_ENDS}\nend({code})")
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "whole\nregistered for the end\n", "")


@pytest.mark.parametrize(("code", "seen"), [(0, 120), (1, 1)])
def test_last_lines_that_cannot_be_written_are_not_passed_over(code: int, seen: int) -> None:
    script = "import sys; from jobs.ending import end; sys.stdout = open('/dev/full', 'w'); print('whole')"
    assert _ended(f"{script}; end({code})").returncode == seen


def test_every_job_ends_its_process_so() -> None:
    for name in JOBS:
        assert inspect.getsource(importlib.import_module(f"jobs.{name}")).endswith("    end(main())\n"), name
