from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.estimate.amounts import Amounts, Share, at_work_s, costs, expected, goodput, together
from pipeline.engine.estimate.prices import Prices
from pipeline.errors import UserError

COUNTS = st.integers(0, 10**9)
MAYBE = st.none() | st.floats(0, 1e9)
AMOUNTS = st.builds(
    Amounts, images=COUNTS, units=COUNTS, bytes_in=st.none() | COUNTS, bytes_out=MAYBE, device_s=MAYBE, wall_s=MAYBE,
    devices=st.integers(1, 1000), put=st.none() | COUNTS, get=st.none() | COUNTS,
)  # fmt: skip
SHARES = st.builds(Share, rows=COUNTS, units=COUNTS, bytes_in=COUNTS, device_s=MAYBE, beside_s=MAYBE, row_bytes=MAYBE)


@given(AMOUNTS)
def test_a_record_keeps_all_that_is_known_and_bears_fields_of_later_versions(amounts: Amounts) -> None:
    record = amounts.record()
    assert None not in record.values()
    assert Amounts.of(record | {"later": 1}) == amounts


@given(st.lists(AMOUNTS, min_size=1, max_size=4))
def test_what_one_does_not_know_is_not_known_of_all(some: list[Amounts]) -> None:
    whole = together(some)
    assert whole.units == sum(each.units for each in some)
    assert (whole.device_s is None) == any(each.device_s is None for each in some)
    assert whole.devices == max(each.devices for each in some)


@given(st.lists(SHARES, min_size=1, max_size=4), st.integers(1, 64), st.none() | st.integers(1, 64))
def test_expectations_are_sums_over_the_parts(shares: list[Share], devices: int, cores: int | None) -> None:
    found = expected(shares, images=1, devices=devices, cores=cores, requests=None).amounts
    assert (found.units, found.bytes_in) == (sum(s.units for s in shares), sum(s.bytes_in for s in shares))
    for name, each in (("device_s", "device_s"), ("bytes_out", "row_bytes")):
        values = [getattr(share, each) for share in shares]
        if None in values:
            assert getattr(found, name) is None
        else:
            of_rows = sum(share.rows * value for share, value in zip(shares, values, strict=True))
            assert getattr(found, name) == pytest.approx(of_rows)
    assert (found.wall_s is None) == (found.device_s is None)
    if found.wall_s is not None and found.device_s is not None:
        assert found.wall_s >= found.device_s / devices  # no device does more than a second of work in a second


def test_the_error_of_bytes_is_two_standard_errors_and_grows_as_roots_do() -> None:
    one = Share(rows=100, units=1, bytes_in=0, row_bytes=10.0, error=0.5)
    alone, twice = (expected([one] * n, images=1, devices=1, cores=None, requests=None) for n in (1, 4))
    assert alone.error == pytest.approx(0.1)
    assert twice.error == pytest.approx(0.05)


@given(AMOUNTS, st.floats(0, 1e3), st.floats(0.5, 4))
def test_costs_are_proportional_to_prices_and_only_of_what_has_one(
    amounts: Amounts, price: float, times: float
) -> None:
    assert costs(amounts, Prices()) == {}
    one = costs(amounts, Prices(device_hour=price, put_thousand=price, gb_month=price))
    more = costs(amounts, Prices(device_hour=price * times, put_thousand=price * times, gb_month=price * times))
    assert set(one) == {"devices", "requests that write", "storage a month"}
    for name, cost in one.items():
        assert (cost is None) == (more[name] is None)
        if cost is not None and more[name] is not None:
            assert more[name] == pytest.approx(cost * times)


def test_costs_in_figures() -> None:
    amounts = Amounts(
        images=1, units=1, bytes_in=5 * 10**9, bytes_out=2e9, device_s=100.0, devices=4, wall_s=1800.0, put=3000,
        get=10**6,
    )  # fmt: skip
    prices = Prices(device_hour=2.5, put_thousand=0.005, get_thousand=0.0004, gb_month=0.023, gb_out=0.09)
    assert costs(amounts, prices) == pytest.approx(
        {
            "devices": 5.0, "requests that write": 0.015, "requests that read": 0.4, "reading": 0.45,
            "storage a month": 0.046,
        }
    )  # fmt: skip


def test_a_price_below_zero_is_refused() -> None:
    with pytest.raises(UserError, match=r"prices\.device_hour is -1"):
        Prices(device_hour=-1.0)


SPANS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 10)).map(lambda each: (each[0], each[0] + each[1])))


@given(SPANS)
def test_time_at_work_counts_each_second_once(spans: list[tuple[int, int]]) -> None:
    seconds = {second for start, end in spans for second in range(start, end)}
    assert at_work_s(spans) == len(seconds)


def test_goodput_is_not_guessed() -> None:
    amounts = Amounts(images=1, units=1, wall_s=10.0, devices=2)
    assert goodput(5.0, amounts) == 0.25
    assert goodput(None, amounts) is None
    assert goodput(5.0, Amounts(images=1, units=1)) is None
    assert math.isfinite(goodput(0.0, amounts) or 0.0)
