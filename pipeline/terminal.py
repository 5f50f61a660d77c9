"""Everything that a job writes to a terminal or a log: lines that cannot steer the terminal or reveal a secret.

Text from inputs (file names, decoder messages, column names) may hold line ends, escape sequences, characters that
reverse the direction of a line, or bytes that are not text. Two barriers protect against this:

- Jobs write lines only through `print_line` and `print_notice`. `print_lines` writes several lines whose parts were
  escaped when they were made, and `LineFormatter` formats every log record. In each of them, one line stays one line.
- Whatever else writes to stdout and stderr within `guarded` (libraries, Ray's copies of its workers' logs, the command
  line parser) can only output text and line ends. To such writers, the streams are not terminals.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from pipeline.errors import printable, redact

if TYPE_CHECKING:
    from rich.console import Console


def print_line(line: str) -> None:
    """Write a line of the job's output to stdout."""
    print(escaped(line), flush=True)


def print_notice(line: str) -> None:
    """Write a line for the user to stderr, apart from the job's output."""
    print(escaped(line), file=sys.stderr, flush=True)


def print_lines(text: str) -> None:
    """Write lines whose parts are escaped already, such as those of `report.text.render_text`, to stdout."""
    print(_passed(text), flush=True)


def print_part(text: str) -> None:
    """Write a piece of another job's log to stdout as it arrives, with its line ends."""
    sys.stdout.write(_passed(text))
    sys.stdout.flush()


def escaped(line: str) -> str:
    """Return `line` as it may be shown: on one line, and without secrets."""
    return printable(redact(line))


def console(stream: TextIO, width: int | None = None) -> Console:
    """Return a rich console on the terminal behind `stream`, without markup or emoji; the caller escapes the text."""
    from rich.console import Console

    return Console(file=raw(stream), width=width, markup=False, emoji=False)


def aligned(rows: Sequence[Sequence[str]], to_the_right: Sequence[bool]) -> str:
    """Return rows of cells as lines, indented, each column as wide as its widest cell; every cell is escaped."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    for right in to_the_right:
        table.add_column(justify="right" if right else "left", no_wrap=True)
    shown = [[printable(cell) for cell in row] for row in rows]
    for row in shown:
        table.add_row(*row)
    lines = io.StringIO()
    widest = 2 + sum(max((2 * len(row[i]) + 2 for row in shown), default=0) for i in range(len(to_the_right)))
    console(lines, width=widest).print(table, highlight=False)  # a letter takes up to two columns
    return "\n".join(f"  {line}".rstrip() for line in lines.getvalue().rstrip("\n").split("\n"))


def raw(stream: TextIO) -> TextIO:
    """Return the stream behind a guarded one, for code that draws on a terminal and escapes its own text."""
    return stream.stream if isinstance(stream, _Guarded) else stream


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Filter stdout and stderr within the block, so that nothing can steer a terminal or break its encoding."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_guard, before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class LineFormatter(logging.Formatter):
    """Format of a log record: one line, with any traceback indented below it, so that no line of it looks like ours."""

    def format(self, record: logging.LogRecord) -> str:
        line = escaped(f"{self.formatTime(record, '%H:%M:%S')} {record.getMessage()}")
        if not record.exc_info:
            return line
        trace = self.formatException(record.exc_info).split("\n")
        return "\n".join([line, *(f"    {escaped(each)}" for each in trace)])


class LineHandler(logging.StreamHandler):
    """Handler that writes to the stderr of the moment: guarded, or with a progress bar drawn on it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(LineFormatter())

    @property
    def stream(self) -> TextIO:
        return sys.stderr


class _Guarded:
    """Text stream that escapes what is written to it and claims not to be a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        text = text if isinstance(text, str) else str(text)
        passed = _passed(text)
        try:
            self.stream.write(passed)
        except UnicodeEncodeError:
            self.stream.write(passed.encode("ascii", "backslashreplace").decode())
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _guard(stream: TextIO) -> Any:
    if stream is None or isinstance(stream, _Guarded):
        return stream
    if hasattr(stream, "reconfigure"):
        # A name that the terminal cannot encode must not make the job fail.
        stream.reconfigure(errors="backslashreplace")
    return _Guarded(stream)


def _passed(text: str) -> str:
    """Return `text` with its line ends and tabs; everything else is treated as in `escaped`."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in redact(text).split("\n"))
