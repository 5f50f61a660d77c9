"""Command line that this process was started with, for reports that say how to do the same again."""

from __future__ import annotations

from collections.abc import Callable

_made: Callable[[], str] | None = None


def remember(make: Callable[[], str]) -> None:
    """Keep what returns the command line, as a shell takes it. Each job has one."""
    global _made
    _made = make


def line() -> str:
    """Return the command line; empty where a library call began the work."""
    return _made() if _made else ""
