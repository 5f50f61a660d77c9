from __future__ import annotations

import io
import json
import math
import time

import pyarrow.json
import pytest

from pipeline import storage
from pipeline.training.monitor import metrics
from pipeline.training.monitor.metrics import Journal, Pace


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
    monkeypatch.setattr(metrics, "_MIN_INTERVAL_S", 0.0)
    Journal("memory://metrics/live", step=0).add(line(1))
    assert metrics.read_metrics("memory://metrics/live") == [line(1)]


def test_what_is_no_number_is_null_in_the_file_and_nan_when_it_is_read() -> None:
    """Any JSON reader accepts the file: a strict one, and one that needs a column to have one type."""
    run = "memory://metrics/diverged"
    journal = Journal(run, step=0)
    journal.add({"step": 1, "losses": {"g_l1": 1.5, "d": 2.0}})
    journal.add({"step": 2, "losses": {"g_l1": math.inf, "d": math.nan}, "validation": {"kid": -math.inf}})
    journal.close()
    data = storage.read(f"{run}/metrics.jsonl")
    strict = [json.loads(line, parse_constant=pytest.fail) for line in data.splitlines()]
    assert strict[1] == {"step": 2, "losses": {"g_l1": None, "d": None}, "validation": {"kid": None}}
    typed = pyarrow.json.read_json(io.BytesIO(data))
    assert typed.column("losses").to_pylist() == [{"g_l1": 1.5, "d": 2.0}, {"g_l1": None, "d": None}]
    lines = metrics.read_metrics(run)
    assert lines[0] == {"step": 1, "losses": {"g_l1": 1.5, "d": 2.0}}
    assert all(map(math.isnan, (*lines[1]["losses"].values(), *lines[1]["validation"].values())))
    Journal(run, step=2).write()
    assert storage.read(f"{run}/metrics.jsonl") == data


def test_closing_publishes_what_a_failed_write_has_left_and_nothing_where_nothing_was_noted() -> None:
    run = "memory://metrics/closed"
    Journal(run, step=0).close()
    assert not storage.exists(f"{run}/metrics.jsonl")
    journal = Journal(run, step=0)
    journal.add(line(1))
    journal.snapshot()  # never published
    journal.close()
    assert metrics.read_metrics(run) == [line(1)]


def test_the_pace_counts_waiting_and_leaves_pauses_out() -> None:
    pace = Pace()
    with pace.waiting(images=4):
        time.sleep(0.05)
    time.sleep(0.05)
    with pace.paused():
        time.sleep(0.5)
    found = pace.read()
    assert 4 / 0.4 < found["images_per_s"] <= 4 / 0.1
    assert 0.1 < found["data_wait"] < 0.9
    assert pace.read()["images_per_s"] == 0
