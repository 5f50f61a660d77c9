"""Run a job with an embedded Ray as a subprocess: watch it, kill it, and wait until its last process is gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

_ROOT = Path(__file__).parents[2]
MARK = "TRANSDOMAIN_TEST_DRIVER"
"""Variable whose value tells the processes of one test from all others."""


class _Process(NamedTuple):
    pid: int
    started: int
    """Clock ticks since the machine's start; with the pid, they identify a process."""
    parent: int


class Driver:
    """Process `python -m jobs.JOB ARGUMENTS` and its descendants. Leaving the `with` block ends them all."""

    def __init__(self, job: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        self._mark = uuid.uuid4().hex
        self._known: set[tuple[int, int]] = set()
        # The folder is short, since Ray's sockets are in it, and its own, since a killed Ray leaves its session behind.
        self._temporary = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        own = {"RAY_TMPDIR": self._temporary, "RAY_AUTH_MODE": "disabled", MARK: self._mark}
        inherited = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"jobs.{job}", *arguments],
                cwd=_ROOT,
                env={**inherited, **own, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.started = time.monotonic()

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end(patience_s=0 if error else 2)

    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout_s: float = 240) -> int:
        """Return the exit code; -9 where it was killed."""
        return self._process.wait(timeout_s)

    def wait_for(self, happened: Callable[[], bool], timeout_s: float = 240) -> bool:
        """Wait until `happened`; return False where the driver ended before."""
        deadline = time.monotonic() + timeout_s
        while not happened():
            if not self.running():
                return happened()
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing happened in {timeout_s} s:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the driver alone."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Send SIGKILL to the driver alone; its Ray has to notice by itself."""
        self.alive()  # while the driver lives, its whole tree is visible
        self._process.kill()
        self._process.wait()

    def alive(self) -> list[int]:
        """Return every process that descends from the driver and still runs."""
        table = {process.pid: process for process in _processes()}
        found = {pid for pid, started in self._known if pid in table and table[pid].started == started}
        found |= {self._process.pid} & table.keys()
        found |= {pid for pid in table if _is_marked(pid, self._mark)}
        while children := {p.pid for p in table.values() if p.parent in found} - found:
            found |= children
        self._known |= {(pid, table[pid].started) for pid in found}
        return sorted(found)

    def end(self, patience_s: float = 5) -> None:
        """Wait until everything is gone; after `patience_s`, kill what is left (Ray's agents linger)."""
        deadline = time.monotonic() + patience_s
        while (left := self.alive()) and time.monotonic() < deadline + 30:
            if time.monotonic() >= deadline:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
            self._process.poll()
        shutil.rmtree(self._temporary, ignore_errors=True)
        assert not left, f"processes {left} cannot be ended"


def kill_marked(mark: str) -> None:
    """Send SIGKILL to every process whose environment has `mark`."""
    for process in _processes():
        if _is_marked(process.pid, mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def _processes() -> Iterator[_Process]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # the program's name is in brackets and may contain anything
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    yield _Process(int(entry.name), int(fields[19]), int(fields[1]))


def command_line(pid: int) -> str:
    """Return the words of a process's command; none where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _is_marked(pid: int, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
