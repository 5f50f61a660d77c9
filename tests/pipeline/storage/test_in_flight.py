"""Work ahead of its reader: in order, bounded, and over at once where the reader stops."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from pipeline.storage.in_flight import ahead, told


def test_results_come_in_order_and_few_are_in_flight() -> None:
    begun, taken, most = itertools.count(), 0, 0

    def slow(item: int) -> int:
        time.sleep(0.001 * (item % 3))
        return item

    def items() -> Iterator[int]:
        nonlocal most
        for item in range(200):
            most = max(most, next(begun) - taken)
            yield item

    for expected, found in enumerate(ahead(slow, items(), 4)):
        assert found == expected
        taken += 1
    assert taken == 200
    assert most <= 8


def test_an_error_comes_at_its_item_and_the_rest_is_dropped() -> None:
    done = list[int]()

    def work(item: int) -> int:
        if item == 3:
            raise OSError("3")
        done.append(item)
        time.sleep(0.01)
        return item

    results = ahead(work, range(10_000), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="3"):
        next(results)
    assert len(done) < 20


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_waits_for_nothing() -> None:
    began = time.monotonic()
    threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        for _ in ahead(lambda _: time.sleep(0.05), range(100_000), 4):
            pass
    assert time.monotonic() - began < 3


def test_it_is_told_how_far_a_long_count_is(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("pipeline.storage.in_flight._SAY_EVERY_S", 0.0)
    assert list(told(iter("ab"), lambda count: f"read {count:,} of 2 footers")) == ["a", "b"]
    assert "read 1 of 2 footers" in caplog.text
