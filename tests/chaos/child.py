"""Run a job in a child process that can be killed, forked from a server that has done the slow imports."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence

from tests import processes


def run(job: str, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run `jobs.JOB` with these arguments and return its exit code; -9 where it was killed."""
    process = processes.context().Process(target=_main, args=(job, list(arguments), {**os.environ, **environment}))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _main(job: str, arguments: list[str], environment: dict[str, str]) -> None:
    processes.take_over(environment)
    sys.exit(importlib.import_module(f"jobs.{job}").main(arguments))
