"""Checks of a machine, one after the other, each in processes of its own and within the time that there is.

A check that fails, or for which no time is left, does not keep the others from running, and is shown as such.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from pipeline.errors import UserError

log = logging.getLogger("transdomain")

ROOT = Path(__file__).parents[3]

_GRACE_S = 30.0
_LEAST_S = 20.0
"""Seconds left below which no further check is begun."""


class Row(NamedTuple):
    """Line of the table."""

    what: str
    found: str
    goal: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Check:
    """Outcome of one check."""

    name: str
    state: Literal["passed", "failed", "left out"]
    seconds: float
    rows: Sequence[Row] = ()
    why: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)


class Timed(Protocol):
    """Options of several checks."""

    @property
    def minutes(self) -> float: ...


@dataclass(frozen=True)
class Checked:
    """Outcomes of several checks, in order."""

    config: Timed
    machine: Mapping[str, Any]
    checks: Sequence[Check]


Keep = Callable[[Checked], object]
"""Function that is called after each check, with all so far."""


class CheckFailedError(Exception):
    """Failure of a check's process; the message has the last lines that it printed."""


Checking = Callable[[float], tuple[Sequence[Row], Mapping[str, Any]]]
"""Check that ends by a time of `time.monotonic`, and returns its rows and numbers.

It raises CheckFailedError, or UserError where it has to be left out.
"""


def run_checks(
    config: Timed,
    about: Mapping[str, Any],
    checks: Mapping[str, Checking],
    keep: Keep,
) -> Checked:
    """Make the checks in turn, within the minutes that `config` gives them."""
    ends, done = time.monotonic() + 60 * config.minutes, list[Check]()
    for name, checking in checks.items():
        log.info("check %s, with %.0f s left", name, ends - time.monotonic())
        done.append(_checked(name, checking, ends))
        log.info("%s", _line(done[-1]))
        keep(Checked(config, about, done))
    return Checked(config, about, done)


def _checked(name: str, checking: Checking, ends: float) -> Check:
    began = time.monotonic()
    if ends - began < _LEAST_S:
        return Check(name, "left out", 0.0, why="no time was left; raise --minutes")
    try:
        rows, numbers = checking(ends)
    except (CheckFailedError, UserError) as error:
        state: Literal["failed", "left out"] = "failed" if isinstance(error, CheckFailedError) else "left out"
        more = "; raise --minutes" if time.monotonic() > ends else ""
        return Check(name, state, time.monotonic() - began, why=f"{error}{more}")
    return Check(name, "passed", time.monotonic() - began, rows, numbers=numbers)


def _line(check: Check) -> str:
    found = [f"{row.what.strip()}: {row.found}" for row in check.rows] or [check.why]
    return f"{check.name}: {check.state} in {check.seconds:.0f} s: {'; '.join(found)}"


def run_benchmark(name: str, options: Sequence[str], scratch: str, ends: float) -> Any:
    """Run `jobs.benchmark NAME` with these options, and return its numbers. Raises CheckFailedError."""
    run_module("benchmark", [name, *options, "--output", scratch], ends)
    return json.loads(Path(scratch, f"benchmark_{name}.json").read_text())


def run_module(job: str, options: Sequence[str], ends: float) -> None:
    """Run a job with these options. Raises CheckFailedError."""
    run_process([sys.executable, "-m", f"jobs.{job}", *options], ends)


def run_process(command: Sequence[str], ends: float) -> str:
    """Run a process to its end, and return the last line that it printed.

    Raises CheckFailedError where it fails, or does not end in time.
    """
    with subprocess.Popen(
        command, cwd=ROOT, env=own_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said, _ = process.communicate(timeout=max(1.0, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise CheckFailedError("the time was up") from None
        finally:
            _end(process)
    lines = [line for line in map(str.strip, said.splitlines()) if line]
    for line in lines:
        log.debug("%s", line)
    last = re.sub(r"=+ | =+", "", lines[-1]) if lines else ""
    if process.returncode:
        raise CheckFailedError(" / ".join(lines[-3:]) or f"it ended with {process.returncode}")
    return last


def most_mb() -> float:
    """Return the most resident memory that this process has had, in megabytes (Linux).

    The kernel's other figure, ru_maxrss, is that of the parent where the parent has more.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def own_environment() -> dict[str, str]:
    """Return the environment of a process that shall start its own Ray, and join no cluster."""
    return {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}


def _end(process: subprocess.Popen[str]) -> None:
    """End a process that still runs, and what it has started, as at Ctrl-C: a job then ends its Ray."""
    for number, patience_s in ((signal.SIGINT, _GRACE_S), (signal.SIGKILL, None)):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=patience_s)
