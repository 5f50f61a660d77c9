"""Help of every job: text that flows, one screen of common options, and all options on demand."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import itertools
import re
from typing import Any
from unittest import mock

import pytest

from jobs.__main__ import JOBS
from jobs.benchmark import BENCHMARKS
from pipeline.config import _flag_names, parse

COMMANDS = [*(name for name in JOBS if name != "benchmark"), *(f"benchmark {name}" for name in BENCHMARKS)]
COLUMNS, MOST_LINES = 100, 50
_NEW_COLUMN = re.compile(r" {2,}(?=\S)")


@functools.cache
def configuration(command: str) -> Any:
    name, *first = command.split()
    module = importlib.import_module(f"jobs.{name}")
    with mock.patch.object(module, "run_job") as run_job:
        module.main(first)
    return run_job.call_args.args[0]


@pytest.fixture
def shown(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    def show(command: str, flag: str) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(COLUMNS))
        with pytest.raises(SystemExit) as ended:
            parse(configuration(command), [flag], prog=command, description="Do it.")
        assert ended.value.code == 0
        return capsys.readouterr().out.splitlines()

    return show


def hard_breaks(lines: list[str]) -> list[str]:
    """Return the lines whose first word would have fitted at the end of the line before."""
    found = []
    rows = [line.removeprefix("│ ").removesuffix("│").rstrip() for line in lines]
    for before, row in itertools.pairwise(rows):
        indent = len(row) - len(row.lstrip())
        columns = {0 if before[:1] != " " else len(before) - len(before.lstrip())}
        columns |= {match.end() for match in _NEW_COLUMN.finditer(before)}
        if indent and indent in columns and len(before) + 1 + len(row.split()[0]) <= COLUMNS - len("│  │"):
            found.append(row)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_on_a_screen_and_flows(command: str, shown: Any) -> None:
    lines = shown(command, "--help")
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= COLUMNS
    assert not hard_breaks(lines)


@pytest.mark.parametrize("command", COMMANDS)
def test_all_options_are_in_the_help_of_all(command: str, shown: Any) -> None:
    config = configuration(command)
    lines = shown(command, "--help_all")
    assert max(map(len, lines)) <= COLUMNS
    assert not hard_breaks(lines)
    flags = set(re.findall(r"--[\w.]+", "\n".join(lines)))
    assert {f"--{name}" for name in _flag_names(config)} - flags <= {"--translators"}, "have no flag without a file"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_what_is_required_and_says_how_much_more_there_is(command: str, shown: Any) -> None:
    config = configuration(command)
    lines, every = shown(command, "--help"), set(_flag_names(config))
    assert set(getattr(config, "COMMON", ())) <= {field.name for field in dataclasses.fields(config)}
    flags = set(re.findall(r"^│ --([\w.]+)", "\n".join(lines), re.MULTILINE)) | (every & {"translators"})
    required = {item.name for item in dataclasses.fields(config) if item.default is item.default_factory}
    assert required <= flags
    hidden = len(every - flags)
    assert lines[-1].endswith(": --help_all")
    assert lines[-1].startswith(f"{hidden} more options" if hidden else "More about each option")


def test_a_break_of_a_docstring_is_seen() -> None:
    assert hard_breaks(["│ --a INT  One two.", "│          Three."])
    assert not hard_breaks([f"│ --a INT  {'x' * 85}", "│          Three."])
