"""Names of slots, and the clock."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.augment.config import Schedule
from pipeline.augment.slots import choose_slot, slot_at
from pipeline.errors import UserError

NOW = datetime.datetime(2026, 11, 23, 5, 30, tzinfo=datetime.UTC)
SCHEDULES: tuple[Schedule, ...] = ("hour", "day", "week", "month")
moments = st.datetimes(datetime.datetime(2000, 1, 1), datetime.datetime(2100, 1, 1), timezones=st.just(datetime.UTC))


@pytest.mark.parametrize(
    ("schedule", "slot"), [("hour", "2026-11-23T05"), ("day", "2026-11-23"), ("week", "2026-W48"), ("month", "2026-11")]
)
def test_the_slot_of_now(schedule: Schedule, slot: str) -> None:
    assert choose_slot("", schedule, NOW) == slot
    assert choose_slot(slot, schedule, NOW) == slot


def test_slots_are_those_of_utc_wherever_the_clock_hangs() -> None:
    berlin = datetime.timezone(datetime.timedelta(hours=1))
    assert slot_at("day", datetime.datetime(2026, 11, 24, 0, 30, tzinfo=berlin)) == "2026-11-23"


@given(moments, moments, st.sampled_from(SCHEDULES))
def test_names_sort_as_their_times_do(one: datetime.datetime, other: datetime.datetime, schedule: Schedule) -> None:
    earlier, later = sorted((one, other))
    assert slot_at(schedule, earlier) <= slot_at(schedule, later)
    assert choose_slot(slot_at(schedule, earlier), schedule, later) == slot_at(schedule, earlier)


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [("hour", "2026-11-23T06"), ("day", "2026-11-24"), ("week", "2026-W49"), ("month", "2027-01")],
)
def test_a_slot_in_the_future_is_refused(schedule: Schedule, wanted: str) -> None:
    with pytest.raises(UserError, match=f"slot {wanted} is in the future"):
        choose_slot(wanted, schedule, NOW)


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [("day", "2026-11"), ("day", "23.11.2026"), ("day", "2026-11-3"), ("day", "2026-02-30"), ("day", "../x"),
     ("hour", "2026-11-23"), ("hour", "2026-11-23T5"), ("week", "2026-W60"), ("week", "2026-W7"), ("month", "2026-1")],
)  # fmt: skip
def test_a_name_of_another_form_is_refused(schedule: Schedule, wanted: str) -> None:
    with pytest.raises(UserError, match=f"under the schedule {schedule} a slot is named like {slot_at(schedule, NOW)}"):
        choose_slot(wanted, schedule, NOW)
