from __future__ import annotations

import io
import re
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.records.limits import UNIT_S, Limits
from pipeline.engine.records.units import (
    PlannedSource,
    Unit,
    decode_segment,
    decode_units,
    encode_segment,
    plan_units,
)
from pipeline.errors import UserError
from pipeline.storage import PassedOver
from pipeline.stores.tables.ranges import Range, Ranges

ranges = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5_000_000)), max_size=20).map(
    lambda sizes: Ranges.of(
        Range(f"s{i:02}", f"u/s{i:02}", "v", 0, rows, size * rows) for i, (rows, size) in enumerate(sizes)
    )
)
limits = st.builds(Limits, rows=st.integers(1, 60), size_mb=st.floats(0.01, 200))


def rows_of(units: list[Unit]) -> list[tuple[str, int]]:
    return [(r.url, row) for unit in units for r in unit.ranges for row in range(r.start, r.stop)]


@given(ranges, limits)
def test_every_row_is_in_exactly_one_unit_in_order(source: Ranges, limits: Limits) -> None:
    units = list(plan_units(source, limits))
    assert rows_of(units) == [(r.url, row) for r in source for row in range(r.start, r.stop)]
    assert all(unit.rows > 0 for unit in units)
    assert sum(r.size for unit in units for r in unit.ranges) == sum(r.size for r in source if r.rows)


@given(ranges, limits)
def test_units_stay_within_their_limits(source: Ranges, limits: Limits) -> None:
    for unit in plan_units(source, limits):
        size = sum(r.size for r in unit.ranges)
        assert unit.rows <= limits.most_rows
        # a cut range rounds its bytes to rows: one row's worth of slack
        assert unit.rows == 1 or size <= limits.size_mb * 1e6 + max(r.size / r.rows for r in unit.ranges)


@pytest.mark.parametrize(
    ("rows", "seconds", "actors", "expected"),
    [
        (1_000_000, 0.4, 1, 64),  # 26 s a unit on two cores of a CPU
        (1_000_000, 0.0003, 8, 2048),  # a GPU
        (160, 0.4, 1, 32),  # several units for one actor
        (160, 0.4, 2, 16),
        (160, 0.4, 16, 8),  # but none of less than some seconds
        (8, 0.001, 1, 2048),
        (3, 0.4, 4, 8),
        (1_000_000, 90.0, 1, 1),  # one image takes longer than a unit should
        (1_000_000, None, 1, 2048),
    ],
)
def test_a_unit_takes_its_device_half_a_minute_and_every_actor_has_some(
    rows: int, seconds: float | None, actors: int, expected: int
) -> None:
    assert Limits().fitted(rows, seconds=seconds, actors=actors).most_rows == expected
    assert Limits(rows=7).fitted(rows, seconds=seconds, actors=actors).rows == 7


@pytest.mark.parametrize(("at_once", "expected"), [(1, 8), (2, 8), (12, 16), (64, 64)])
def test_a_unit_has_an_image_for_each_thread(at_once: int, expected: int) -> None:
    assert Limits().fitted(32, seconds=0.8, actors=1, at_once=at_once).most_rows == expected


@given(st.integers(1, 10**9), st.floats(1e-5, 1e4), st.integers(1, 1000))
def test_layouts_stay_few(rows: int, seconds: float, actors: int) -> None:
    fitted = Limits().fitted(rows, seconds=seconds, actors=actors).most_rows
    assert fitted in {2**i for i in range(12)}
    assert fitted == 1 or fitted * seconds <= UNIT_S


@given(ranges, limits, st.integers(0, 999_999))
def test_names_are_digits_and_hyphens_and_unique(source: Ranges, limits: Limits, segment: int) -> None:
    names = [unit.id for unit in plan_units(source, limits, segment)]
    assert all(re.fullmatch(r"\d{6}-\d{6}", name) for name in names)
    assert len(set(names)) == len(names)
    assert names == sorted(names)


@given(ranges, limits)
def test_a_unit_reads_each_run_of_a_shard_once(source: Ranges, limits: Limits) -> None:
    for unit in plan_units(source, limits):
        urls = [r.url for r in unit.ranges]
        assert len(set(urls)) == len(urls)


@given(ranges, limits)
def test_a_segment_survives_its_file(source: Ranges, limits: Limits) -> None:
    units = plan_units(source, limits, 3)
    sources = {"one": PlannedSource(url="u", passed_over=(PassedOver("links that lead nowhere", 2, "a.png"),))}
    common: dict[str, Any] = {"number": 3, "job": "pack", "sources": sources, "label": "night"}
    data = encode_segment([units], recipe={"b": 1, "a": [2]}, **common)
    assert data == encode_segment([units], recipe={"a": [2], "b": 1}, **common)
    segment = decode_segment(io.BytesIO(data), "plan")
    assert (segment.number, segment.job, segment.units, segment.label) == (3, "pack", len(units), "night")
    assert (segment.recipe, segment.sources) == ({"a": [2], "b": 1}, sources)
    assert decode_units(pq.read_table(io.BytesIO(data))) == list(units)


def test_impossible_limits_are_refused() -> None:
    with pytest.raises(UserError, match="rows is 0: it must be at least 1"):
        Limits(rows=0)
