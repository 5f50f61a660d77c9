"""Output of a run: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import re
import time
from typing import Any

import pytest

from pipeline.training.monitor.board import Board
from pipeline.training.monitor.console import Bar, Lines, RunProgress, Ticker, open_screen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


LINE: dict[str, Any] = {
    "step": 50,
    "epoch": 2,
    "learning_rate": 2e-4,
    "losses": {"g_l1": 12.5},
    "images_per_s": 8.0,
    "data_wait": 0.25,
    "validation": {"l1": 0.125},
}


def standing(step: int, line: dict[str, Any] | None = None) -> RunProgress:
    return RunProgress(step=step, total=200, epoch=2, epochs=7, images_per_s=8.0, line=line)


def test_a_terminal_gets_a_bar_and_the_log_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with open_screen("s3://bucket/run", stream) as shown:
        assert isinstance(shown, Bar)
        shown.print_line("batch norm: [each] worker")
        shown.update(standing(50, LINE))
        shown.update(standing(60))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "batch norm: [each] worker" in text
    last = text[text.rindex("60/200") :]
    assert "60/200 steps epoch 2/7  8.0 images/s" in last
    assert "losses: g_l1 12.5" in last
    assert "validation at step 50: l1 0.125" in last
    assert "log: s3://bucket/run/metrics.jsonl" in last


def test_elsewhere_there_is_a_line_for_each_line_of_metrics() -> None:
    stream = io.StringIO()
    with open_screen("run", stream) as shown:
        assert isinstance(shown, Lines)
        shown.print_line("resuming")
        shown.update(standing(40))
        shown.update(standing(50, LINE))
    assert stream.getvalue().splitlines() == [
        "resuming",
        "step 50/200  epoch 2  g_l1 12.5  lr 0.0002  8.0 images/s  data wait 25%  validation: l1 0.125",
    ]


def test_a_fast_run_is_told_of_twice_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    reported: list[RunProgress] = []
    ticker = Ticker(reported.append, start=10, total=100, steps_per_epoch=30)
    for step in range(11, 31):
        now[0] += 0.125
        ticker.step(step, 4)
    assert [s.step for s in reported] == [10, 15, 20, 25, 30]
    assert reported[-1].images_per_s == pytest.approx(32)
    assert (reported[0].epoch, reported[-1].epoch, reported[-1].epochs) == (1, 1, 4)


def test_the_board_keeps_every_line_and_the_newest_standing() -> None:
    board = Board()
    board.print_line("a")
    for step in (1, 2):
        board.update(standing(step))
    board.update(standing(50, LINE))
    board.update(standing(51))
    assert board.take() == ["a", standing(50, LINE), standing(51)]
    assert board.take() == []
