from __future__ import annotations

import ast
import io
import logging
import sys
from pathlib import Path

import pytest

import jobs
import pipeline
from pipeline import terminal

HOSTILE = "a\nout: whole\x1b[8m\x1b]0;title\x07\r\x9b2J\u202e[red]:skull:\ud800.png"
SHOWN = r"a\nout: whole\x1b[8m\x1b]0;title\x07\r\x9b2J\u202e[red]:skull:\ud800.png"


class Terminal(io.TextIOWrapper):
    """Terminal of some encoding that remembers what it was sent."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict", newline="")

    def isatty(self) -> bool:
        return True

    def sent(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined]


def attach(monkeypatch: pytest.MonkeyPatch, encoding: str = "utf-8") -> Terminal:
    """Attach the terminal in the test and not before it, since pytest sets its own streams when the test begins."""
    made = Terminal(encoding)
    monkeypatch.setattr(sys, "stdout", made)
    monkeypatch.setattr(sys, "stderr", made)
    return made


def test_a_line_stays_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = attach(monkeypatch)
    terminal.print_line(HOSTILE)
    terminal.print_notice(HOSTILE)
    assert screen.sent() == f"{SHOWN}\n{SHOWN}\n"


def test_a_record_of_a_log_stays_one_line_and_its_traceback_apart() -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        record = logging.LogRecord("x", logging.INFO, "", 0, "%s: bad", (HOSTILE,), sys.exc_info())
    first, *trace = terminal.LineFormatter().format(record).split("\n")
    assert first.endswith(f" {SHOWN}: bad")
    assert trace and all(line.startswith("    ") and line.isprintable() for line in trace)  # noqa: PT018


def test_what_libraries_write_cannot_steer_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = attach(monkeypatch)
    with terminal.guarded():
        assert not sys.stdout.isatty()
        print(f"one\n\ttwo {HOSTILE}")
        sys.stderr.write("\x1b[31mthree\x1b[0m")
        sys.stderr.writelines(["four\r\n"])
        with terminal.guarded():
            print("five")
    assert sys.stdout is screen
    sent = screen.sent()
    assert all(character.isprintable() or character in "\n\t" for character in sent)
    assert [line[:4] for line in sent.split("\n")] == ["one", "\ttwo", "out:", "\\x1b", "five", ""]


def test_the_guard_says_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = attach(monkeypatch)
    with terminal.guarded():
        print("reading s3://key:hunter2hunter2@bucket/x")
    assert "hunter2" not in screen.sent()


def test_an_encoding_that_lacks_a_character_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    made = attach(monkeypatch, "ascii")
    with terminal.guarded():
        terminal.print_line("grün 東京\ud800")
    assert made.sent() == "gr\\xfcn \\u6771\\u4eac\\ud800\n"


def test_a_console_takes_no_word_for_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = attach(monkeypatch)
    with terminal.guarded():
        terminal.console(sys.stdout).print("[red]x[/red] :skull:", highlight=False)
    assert screen.sent().strip() == "[red]x[/red] :skull:"


def _sources() -> list[Path]:
    roots = [Path(package.__path__[0]) for package in (jobs, pipeline)]
    return [path for root in roots for path in sorted(root.rglob("*.py")) if path != Path(terminal.__file__)]


def written_past(path: Path) -> list[str]:
    """Return the calls of a source file that write to the terminal by themselves."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        past = name in ("print", "pprint", "Console", "rich.print", "logging.StreamHandler", "os.write", "input")
        past |= name.startswith(("sys.stdout.write", "sys.stderr.write", "sys.__std", "traceback.print"))
        if past:
            found.append(f"{path.parent.name}/{path.name}:{node.lineno}: {name}")  # type: ignore[attr-defined]
    return found


def test_nothing_is_written_past_this_module(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("print(1)")
    assert len(written_past(tmp_path / "bad.py")) == 1
    sources = _sources()
    assert len(sources) > 300
    found = [call for path in sources for call in written_past(path)]
    assert not found, "write it by pipeline.terminal.tell, say or show"
