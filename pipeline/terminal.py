"""All that a job writes to a terminal or a log: lines in which nothing steers the terminal or gives a secret away.

Texts from inputs (names of files, messages of decoders, columns) may hold line ends, escape sequences, characters that
turn the direction of a line, or bytes that are no text. Hence two walls:

- `tell` and `say` are the only ways by which the jobs write a line, `show` a text of several lines whose parts were
  escaped where it was made, and `LineFormatter` the form of every record of a log. In each, one line stays one line.
- Whatever else writes to stdout and stderr within `guarded` (libraries, Ray's copies of its workers' logs, the parser
  of the command line) cannot get anything but text and line ends through. To it, the streams are no terminals.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console

from pipeline.errors import printable, redact


def tell(line: str) -> None:
    """Write a line of what the job gives, to stdout."""
    print(escaped(line), flush=True)


def say(line: str) -> None:
    """Write a line for the user, to stderr, beside what the job gives."""
    print(escaped(line), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Write lines whose parts are escaped already, such as those of `report.text.render_text`, to stdout."""
    print(_passed(text), flush=True)


def pass_on(text: str) -> None:
    """Write a part of another job's log to stdout as it comes, with its line ends."""
    sys.stdout.write(_passed(text))
    sys.stdout.flush()


def escaped(line: str) -> str:
    """`line` as it may be shown: on one line, and without secrets."""
    return printable(redact(line))


def console(stream: TextIO, width: int | None = None) -> Console:
    """A rich console on the terminal behind `stream`, which takes no word for markup; escape what it is given."""
    return Console(file=raw(stream), width=width, markup=False, emoji=False)


def raw(stream: TextIO) -> TextIO:
    """The stream behind a guarded one, for who draws on a terminal and escapes what it is given."""
    return stream.stream if isinstance(stream, _Guarded) else stream


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Let nothing through stdout and stderr, within the block, that would steer a terminal or break its encoding."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_guard, before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class LineFormatter(logging.Formatter):
    """A record on one line; a traceback below it, indented, so that none of its lines looks like one of ours."""

    def format(self, record: logging.LogRecord) -> str:
        line = escaped(f"{self.formatTime(record, '%H:%M:%S')} {record.getMessage()}")
        if not record.exc_info:
            return line
        trace = self.formatException(record.exc_info).split("\n")
        return "\n".join([line, *(f"    {escaped(each)}" for each in trace)])


class LineHandler(logging.StreamHandler):
    """Writes to whatever stderr is at the time: guarded, or drawn on by a progress bar."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(LineFormatter())

    @property
    def stream(self) -> TextIO:
        return sys.stderr


class _Guarded:
    """A text stream that escapes what is written to it, and looks like no terminal."""

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
        # A name that the terminal's encoding lacks is no reason to fail.
        stream.reconfigure(errors="backslashreplace")
    return _Guarded(stream)


def _passed(text: str) -> str:
    """`text` with its line ends and tabs, and everything else as `escaped` has it."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in redact(text).split("\n"))
