"""Named places between two writes, where a test can end or stop the process.

`TRANSDOMAIN_CRASH=NAME` kills the process with SIGKILL the first time that it comes to the point NAME;
`TRANSDOMAIN_CRASH=hold:NAME` makes it wait there for ever, so that somebody else can be killed meanwhile.
`TRANSDOMAIN_CRASH_TOKEN` names a file that is created when the point is reached, with the process's id in it; while it
exists no process stops again, so that a restarted worker gets past. Without the variable a point costs one look at
the environment.
"""

from __future__ import annotations

import os
import signal
import time

POINTS = (
    "before plan", "after plan", "before data", "after data", "after image", "after quarantine", "after commit",
    "before manifest", "after manifest", "before success", "after success",
)  # fmt: skip


def point(name: str) -> None:
    """One of POINTS is reached."""
    wanted = os.environ.get("TRANSDOMAIN_CRASH")
    if wanted is None or wanted.removeprefix("hold:") != name:
        return
    token = os.environ["TRANSDOMAIN_CRASH_TOKEN"]
    try:
        descriptor = os.open(token, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(str(os.getpid()))
    if wanted.startswith("hold:"):
        time.sleep(3600)
    os.kill(os.getpid(), signal.SIGKILL)
