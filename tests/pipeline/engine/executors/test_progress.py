"""Progress: what counts while units are on their way, the line that says so, the stage that the others wait for."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest

from pipeline.engine.executors import progress
from pipeline.engine.executors.flow import EMPTY, Flow, Snapshot, slowest_stage
from pipeline.engine.executors.progress import Meter, duration
from pipeline.engine.publishing.steps import Receipt, Stage, Task

STAGES = tuple(
    Stage(name=name, make=lambda: lambda unit: unit, stall_s=1, actors=(1, 1) if name == "translate" else None)
    for name in ("decode", "translate", "encode")
)


def meter(planned: int = 100, committed: tuple[int, int] = (0, 0)) -> Meter:
    return Meter("translate", STAGES, planned, lambda: committed)


def test_rows_count_as_soon_as_they_are_translated() -> None:
    flow, found = Flow("encode"), meter()
    found.look = flow.snapshot
    assert found.counts().done == 0
    flow.begin(0, "a", "decode")
    flow.advance(0, "a", "decode", 10)
    assert found.counts().done == 0
    flow.end(0, "a", "decode", 10)
    flow.begin(0, "a", "translate")
    flow.advance(0, "a", "translate", 7)
    assert found.counts().done == 7
    flow.end(0, "a", "translate", 10)
    assert found.counts().done == 10


def test_a_unit_counts_once_when_it_is_committed() -> None:
    flow, rows = Flow("encode"), [0]
    found = Meter("translate", STAGES, 100, lambda: (rows[0], 0))
    found.look = flow.snapshot
    flow.begin(0, "a", "translate")
    flow.advance(0, "a", "translate", 9)
    found.ended(Receipt(Task(0, "a"), "done", inputs=10, ok=9, quarantined=1))
    rows[0] = 10  # the account of the units in between may hear of it later
    assert found.counts().done == 10
    flow.end(0, "a", "encode", 9)
    assert found.counts().done == 10
    assert flow.snapshot() == EMPTY


def test_what_a_process_that_died_has_done_counts_no_more() -> None:
    flow = Flow("encode")
    flow.begin(0, "a", "translate")
    flow.advance(0, "a", "translate", 9)
    flow.begin(0, "a", "translate")
    assert flow.snapshot() == Snapshot({}, {"translate": 1}, {})
    flow.forget(0, "a")
    flow.advance(0, "a", "translate", 3)
    assert flow.snapshot() == EMPTY


def test_news_may_come_late() -> None:
    flow = Flow("encode")
    flow.begin(0, "a", "decode")
    flow.begin(0, "a", "translate")
    flow.end(0, "a", "decode", 5)
    assert flow.snapshot() == Snapshot({"decode": 5}, {"translate": 1}, {})


def test_a_look_costs_the_same_however_many_units_wait() -> None:
    flow = Flow("encode")
    for unit in map(str, range(10_000)):
        flow.begin(0, unit, "decode")
        flow.end(0, unit, "decode", 3)
    assert flow.snapshot() == Snapshot({"decode": 30_000}, {}, {"decode": 10_000})
    assert flow.snapshot([Task(0, str(unit)) for unit in range(9_999)]) == Snapshot({"decode": 3}, {}, {"decode": 1})
    flow.forget(0, "9999")
    assert flow.snapshot() == EMPTY


@pytest.mark.parametrize(
    ("running", "waiting", "expected"),
    [
        ({}, {}, ""),
        ({"decode": 2}, {}, "decode"),
        ({"decode": 2, "translate": 1}, {}, "decode"),
        ({"decode": 1, "translate": 1, "encode": 1}, {"decode": 2}, "translate"),
        ({"translate": 1, "encode": 1}, {"decode": 1, "translate": 3}, "encode"),
    ],
)
def test_the_slowest_stage_is_the_one_with_work_before_it(
    running: dict[str, int], waiting: dict[str, int], expected: str
) -> None:
    assert slowest_stage(STAGES, Snapshot({}, running, waiting)) == expected


def test_the_line_says_rate_and_rest_by_the_last_minute() -> None:
    found = meter(10_000)
    counts = progress.Counts(2_000, 10_000, 0, "translate")
    assert found.line(0.0, counts) == "2,000 of 10,000 images, slowest stage: translate"
    counts = counts._replace(done=2_050, quarantined=3)
    assert found.line(10.0, counts) == (
        "2,050 of 10,000 images, 5 img/s, 26 min left, 3 quarantined, slowest stage: translate"
    )
    for second in range(20, 200, 10):
        line = found.line(second, counts._replace(done=2_050 + 10 * (second - 10)))
    assert line == "3,850 of 10,000 images, 10 img/s, 10 min left, 3 quarantined, slowest stage: translate"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59, "59 s"), (61, "1 min"), (7260, "2 h 1 min"), (90000, "1 d 1 h"), (-1, "0 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_log_gets_lines_while_the_first_unit_is_on_its_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "_LOOK_FOR_LINES_EVERY_S", 0.01)
    monkeypatch.setattr(progress, "_FIRST_LINE_S", 0.0)
    flow, found = Flow("encode"), meter()
    found.look = flow.snapshot

    def receipts() -> Iterator[Receipt]:
        flow.begin(0, "a", "translate")
        flow.advance(0, "a", "translate", 42)
        while "translate: 42 of 100 images" not in caplog.text:
            time.sleep(0.01)
        yield Receipt(Task(0, "a"), "done", inputs=100, ok=100)

    assert len(list(progress.shown(receipts(), found))) == 1
    assert "slowest stage: translate" in caplog.text
