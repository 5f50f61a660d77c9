"""Child processes forked from a server that has done the slow imports: each starts at once instead of after 5 s."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerContext
from typing import Any

import torch.multiprocessing

# Modules alone, so that the server holds no connection and no thread that a fork would break. There is one server for
# all tests, and it reads this list once.
_PRELOADED = (
    "jobs.pack", "jobs.translate", "jobs.augment", "pandas", "s3fs", "torch._dynamo", "torch.distributed",
    "tests.chaos.child", "tests.pipeline.training.small",
)  # fmt: skip


def context() -> ForkServerContext:
    """Return the context of multiprocessing whose processes are forked from that server."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(list(_PRELOADED))
    return found


def take_over(environment: Mapping[str, str]) -> None:
    """Make `environment` that of this process, which has the server's."""
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # it is in the environment, too


def run_ranks(function: Callable[..., None], arguments: tuple[Any, ...], ranks: int) -> None:
    """Call `function(rank, *arguments)` in a process for each rank; raise what the first one raises that fails."""
    context()
    torch.multiprocessing.start_processes(
        _rank, (function, arguments, dict(os.environ)), nprocs=ranks, start_method="forkserver"
    )


def _rank(rank: int, function: Callable[..., None], arguments: tuple[Any, ...], environment: Mapping[str, str]) -> None:
    take_over(environment)
    function(rank, *arguments)
