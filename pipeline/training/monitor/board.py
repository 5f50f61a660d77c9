"""Board between rank 0 and the driver. Its process imports this module alone, so that it starts in a second."""

from __future__ import annotations

from pipeline.training.monitor.console import RunProgress


class Board:
    """Lines and progress that rank 0 wants the driver to show, held by an actor, wherever each of them runs.

    Ray's own way of passing on a worker's stdout prefixes each line with the process, and could carry no progress.
    """

    def __init__(self) -> None:
        self._lines: list[str | RunProgress] = []
        self._settled = False

    def note_placed(self) -> None:
        """Note that the workers have been placed."""
        self._settled = True

    def placed(self) -> bool:
        return self._settled

    def print_line(self, line: str) -> None:
        self._lines.append(line)

    def update(self, progress: RunProgress) -> None:
        """Add progress; it replaces unseen older progress, unless that has a line of metrics."""
        if self._lines and isinstance(last := self._lines[-1], RunProgress) and last.line is None:
            self._lines.pop()
        self._lines.append(progress)

    def take(self) -> list[str | RunProgress]:
        """Return everything added since the last call."""
        taken, self._lines = self._lines, []
        return taken
