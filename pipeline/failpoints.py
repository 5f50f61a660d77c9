"""Failpoints between two writes, where a test can pause or kill the process.

`TRANSDOMAIN_CRASH=NAME` kills the process with SIGKILL the first time it reaches the failpoint NAME.
`TRANSDOMAIN_CRASH=hold:NAME` makes it wait there for an hour first, so that another process can be killed meanwhile.
`TRANSDOMAIN_CRASH_TOKEN` names a file that is created when the failpoint is reached and holds the process id. While the
file exists, no process stops again, so a restarted worker gets past. Without the variable, a failpoint costs one look
at the environment.
"""

from __future__ import annotations

import os
import signal
import time

POINTS = (
    "before plan", "after plan", "before data", "after data", "after image", "after quarantine", "after commit",
    "before manifest", "after manifest", "before success", "after success",
)  # fmt: skip

POINTS_OF_VERSIONS = ("before version", "after version", "before mark", "after mark", "after card")
"""Failpoints that only the making of a new version reaches."""


def point(name: str) -> None:
    """Stop here where a test asks for it; `name` is one of POINTS, or of POINTS_OF_VERSIONS."""
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
