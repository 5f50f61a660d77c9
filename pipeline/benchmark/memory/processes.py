"""Memory of a process and of all that it has started, watched from outside while they run (Linux)."""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_EVERY_S = 0.25
_WHOLE_EVERY_S = 1.0
"""Seconds between two looks, which take a few hundredths each; peaks of a process are kept by the kernel."""

_RAY_OWN = {"gcs_server": "Ray: GCS", "raylet": "Ray: raylet"}


class Peak(NamedTuple):
    """Most memory that processes of one role had, each by itself, in bytes."""

    resident: int
    """Resident memory, with what it shares with others: VmHWM."""
    private: int
    """Memory of its own: RssAnon, as often as it was looked at."""


@dataclass
class Seen:
    """Memory of a command, from its start to its end."""

    peaks: dict[str, Peak] = field(default_factory=dict)
    """Peaks by the role of the process: what it does in the job."""
    whole: int = 0
    """Most memory of all of its processes together, in bytes; what they share is counted once (PSS)."""
    read: int = 0
    """Bytes that all of its processes have read, from files and from each other, as often as they were looked at."""
    seconds: float = 0.0
    code: int = 0
    said: str = ""
    """End of what it printed."""


def run_watched(command: Sequence[str], *, cwd: str, env: dict[str, str], within_s: float) -> Seen:
    """Run a command to its end, and watch its processes. Raises subprocess.TimeoutExpired where it takes too long."""
    seen, began = Seen(), time.monotonic()
    with subprocess.Popen(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        over = threading.Event()
        watching = threading.Thread(target=_watch, args=(process.pid, seen, over), daemon=True)
        watching.start()
        try:
            said, _ = process.communicate(timeout=within_s)
        finally:
            over.set()
            watching.join()
            if process.poll() is None:
                process.terminate()
    seen.seconds, seen.code, seen.said = time.monotonic() - began, process.returncode, said.strip()[-2000:]
    return seen


def _watch(pid: int, seen: Seen, over: threading.Event) -> None:
    roles, resident, private = defaultdict[int, set[str]](set), dict[int, int](), defaultdict[int, int](int)
    read = dict[int, int]()
    looked_at_whole = 0.0
    while not over.wait(_EVERY_S):
        alive = _family(pid)
        for each in alive:
            with contextlib.suppress(OSError, KeyError):  # it has ended
                role, status = _role(each, pid), _status(each)
                resident[each] = status["VmHWM"]
                private[each] = max(private[each], status["RssAnon"])
                read[each] = _read(each)
                if role:
                    roles[each].add(role)
        if time.monotonic() - looked_at_whole > _WHOLE_EVERY_S:
            looked_at_whole = time.monotonic()
            seen.whole = max(seen.whole, sum(map(_proportional, alive)))
    seen.read = sum(read.values())
    for each, most in resident.items():
        role = " and ".join(sorted(roles[each])) or "idle worker"
        before = seen.peaks.get(role, Peak(0, 0))
        seen.peaks[role] = Peak(max(before.resident, most), max(before.private, private[each]))


def _family(pid: int) -> list[int]:
    """Return the process and all that descend from it."""
    children = defaultdict[int, list[int]](list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children[parent].append(int(entry.name))
    return list(_below(pid, children))


def _below(pid: int, children: dict[int, list[int]]) -> Iterator[int]:
    yield pid
    for child in children.get(pid, ()):
        yield from _below(child, children)


def _role(pid: int, driver: int) -> str:
    """Return what a process does; empty for one that waits for work."""
    if pid == driver:
        return "driver"
    line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    name = Path(line.split(" ")[0]).name
    if name in _RAY_OWN:
        return _RAY_OWN[name]
    if "default_worker.py" in line:  # it has no name yet
        return ""
    if line.startswith("ray::"):
        if "IDLE" in line:
            return ""
        stage = re.search(r"\((\w+)\)", line)
        title = stage[1] if stage else line[5:].split(" ")[0].split(".")[0].split(":")[0]
        return "Ray: agents" if "Agent" in title else title
    return "Ray: agents" if "agent" in line else "other"


def _status(pid: int) -> dict[str, int]:
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) == 3 and words[2] == "kB"}


def _read(pid: int) -> int:
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])


def _proportional(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
