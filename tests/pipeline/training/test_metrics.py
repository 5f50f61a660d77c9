from __future__ import annotations

import time

import pytest

from pipeline.training import metrics
from pipeline.training.metrics import Journal, Pace


def line(step: int) -> dict[str, object]:
    return {"step": step, "losses": {"g_l1": 1.5}}


def test_a_resumed_journal_reads_as_if_nothing_had_happened(any_prefix: str) -> None:
    first = Journal(any_prefix, step=0)
    for step in (1, 2, 3):
        first.add(line(step))
    first.write()
    resumed = Journal(any_prefix, step=2)
    resumed.add(line(3))
    resumed.add(line(4))
    resumed.write()
    assert metrics.read_metrics(any_prefix) == [line(1), line(2), line(3), line(4)]


def test_lines_are_seen_while_a_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_MOST_OFTEN_S", 0.0)
    Journal("memory://metrics/live", step=0).add(line(1))
    assert metrics.read_metrics("memory://metrics/live") == [line(1)]


def test_the_pace_counts_waiting_and_leaves_pauses_out() -> None:
    pace = Pace()
    with pace.step(4):
        time.sleep(0.05)
    time.sleep(0.05)
    with pace.paused():
        time.sleep(0.5)
    found = pace.read()
    assert 4 / 0.4 < found["images_per_s"] <= 4 / 0.1
    assert 0.1 < found["data_wait"] < 0.9
    assert pace.read()["images_per_s"] == 0
