from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import usage
from pipeline.translation.pace import DeviceClock
from pipeline.usage import NOTHING, Usage


def test_what_is_noted_is_taken_once_whichever_thread_notes_it() -> None:
    usage.take()
    threads = [
        threading.Thread(target=lambda: [usage.note(Usage(get=1, flop=2.0)) for _ in range(500)]) for _ in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert usage.take() == Usage(get=2000, flop=4000.0)
    assert usage.take() == NOTHING


def test_a_forked_process_begins_with_nothing() -> None:
    usage.take()
    usage.note(Usage(put=1))
    if (child := os.fork()) == 0:
        os._exit(usage.take() != NOTHING)
    assert os.waitpid(child, 0)[1] == 0
    assert usage.take() == Usage(put=1)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 10)), min_size=1, max_size=6))
def test_a_device_that_several_use_is_used_once(spans: list[tuple[int, int]]) -> None:
    """The shares of its users are the time in which anybody used it."""
    moments = sorted(
        (at, begins, i) for i, (start, long) in enumerate(spans) for at, begins in ((start, 0), (start + long, 1))
    )
    now = [0.0]
    clock, usage_before = DeviceClock(lambda: now[0]), usage.take()
    running = [clock.running() for _ in spans]
    for at, ends, i in moments:
        now[0] = float(at)
        if ends:
            running[i].__exit__(None, None, None)
        else:
            running[i].__enter__()
    seconds = {second for start, long in spans for second in range(start, start + long)}
    assert usage.take().device_s == pytest.approx(len(seconds))
    usage.note(usage_before)


def test_users_at_once_share_the_time() -> None:
    now = [0.0]
    clock = DeviceClock(lambda: now[0])
    usage.take()
    first, second = clock.running(), clock.running()
    first.__enter__()
    now[0] = 1.0
    second.__enter__()
    now[0] = 3.0
    first.__exit__(None, None, None)
    assert usage.take().device_s == pytest.approx(2.0)
    now[0] = 4.0
    second.__exit__(None, None, None)
    assert usage.take().device_s == pytest.approx(2.0)
