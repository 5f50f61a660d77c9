from __future__ import annotations

import io
import json
import re
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import storage
from pipeline.engine.records import units
from pipeline.engine.records.layout import Output, load_segments, load_unit, load_units, siblings
from pipeline.engine.records.limits import UNIT_S, Limits
from pipeline.engine.records.units import (
    PlannedSource,
    Unit,
    decode_segment,
    decode_units,
    encode_segment,
    plan_units,
    unit_id,
)
from pipeline.errors import UserError
from pipeline.storage import PassedOver
from pipeline.stores.tables.ranges import Range, Ranges, append_range, cut_range

ranges = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5_000_000)), max_size=20).map(
    lambda sizes: Ranges.of(
        Range(f"s{i:02}", f"u/s{i:02}", "v", 0, rows, size * rows) for i, (rows, size) in enumerate(sizes)
    )
)
limits = st.builds(Limits, rows=st.integers(1, 60), size_mb=st.floats(0.01, 200))


def rows_of(made: list[Unit]) -> list[tuple[str, int]]:
    return [(r.url, row) for unit in made for r in unit.ranges for row in range(r.start, r.stop)]


@given(ranges, limits)
def test_every_row_is_in_exactly_one_unit_in_order(source: Ranges, limits: Limits) -> None:
    made = list(plan_units(source, limits))
    assert rows_of(made) == [(r.url, row) for r in source for row in range(r.start, r.stop)]
    assert all(unit.rows > 0 for unit in made)
    assert sum(r.size for unit in made for r in unit.ranges) == sum(r.size for r in source if r.rows)


@given(ranges, limits)
def test_units_stay_within_their_limits(source: Ranges, limits: Limits) -> None:
    for unit in plan_units(source, limits):
        size = sum(r.size for r in unit.ranges)
        assert unit.rows <= limits.most_rows
        # a cut range rounds its bytes to rows: one row's worth of slack
        assert unit.rows == 1 or size <= limits.size_mb * 1e6 + max(r.size / r.rows for r in unit.ranges)


def planned_one_by_one(source: Ranges, limits: Limits, first: int) -> list[Unit]:
    """Return the units as they are defined: piece by piece, each in the unit before it while that has room."""
    max_bytes, units, held, rows, size = int(limits.size_mb * 1e6), list[Unit](), list[Range](), 0, 0
    for piece in (piece for whole in source for piece in cut_range(whole, limits.most_rows, max_bytes)):
        if held and (rows + piece.rows > limits.most_rows or size + piece.size > max_bytes):
            units.append(Unit(unit_id(7, first + len(units)), tuple(held), "part"))
            held, rows, size = [], 0, 0
        append_range(held, piece)
        rows, size = rows + piece.rows, size + piece.size
    return [*units, Unit(unit_id(7, first + len(units)), tuple(held), "part")] if held else units


grouped = st.lists(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3_000_000)), max_size=6), max_size=8).map(
    lambda shards: Ranges.of(
        Range(f"s{i}", f"u/s{i}", "v", sum(rows for rows, _ in groups[:k]), sum(r for r, _ in groups[: k + 1]), size)
        for i, groups in enumerate(shards)
        for k, (_, size) in enumerate(groups)
    )
)


@pytest.mark.parametrize("window", [1, 3, 1_000_000])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grouped, limits, st.integers(0, 9))
def test_units_in_columns_are_those_that_are_packed_piece_by_piece(
    monkeypatch: pytest.MonkeyPatch, window: int, source: Ranges, limits: Limits, first: int
) -> None:
    monkeypatch.setattr(units, "_WINDOW", window)
    planned = plan_units(source, limits, 7, first=first, part="part")
    assert list(planned) == planned_one_by_one(source, limits, first)
    assert planned.rows == source.rows


@settings(max_examples=30)
@given(grouped, limits, st.integers(1, 5), st.integers(1, 20))
def test_row_groups_are_bounded_and_a_unit_is_found_in_its_own(
    source: Ranges, limits: Limits, most_units: int, most_ranges: int
) -> None:
    planned = plan_units(source, limits)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(units, "UNITS_PER_ROW_GROUP", most_units)
        patched.setattr(units, "RANGES_PER_ROW_GROUP", most_ranges)
        data = encode_segment([planned], number=0, job="pack", recipe={}, sources={})
    file = pq.ParquetFile(io.BytesIO(data))
    for group in range(file.num_row_groups):
        found = decode_units(file.read_row_group(group))
        assert len(found) <= most_units
        assert len(found) == 1 or sum(len(unit.ranges) for unit in found) <= most_ranges
    output = Output(f"memory://{uuid.uuid4()}")
    storage.create(output.plan(0), data)
    assert list(load_units(output, 0)) == list(planned)
    for unit in planned:
        assert load_unit(output, unit.id) == unit
    with pytest.raises(ValueError, match=r"has no unit 000000-009999"):
        load_unit(output, "000000-009999")


def test_a_plan_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Earlier versions wrote 64 units a row group, whatever their ranges, from rows."""
    planned = [
        Unit(unit_id(0, i), (Range("s", "u/s", "v", i, i + 1, 9), Range("t", "u/t", "v", i, i + 2, 9)))
        for i in range(150)
    ]
    rows = [{"unit": u.id, "part": u.part, "rows": u.rows, "ranges": [r._asdict() for r in u.ranges]} for u in planned]
    head = {
        "format": 3,
        "number": 0,
        "job": "pack",
        "label": "",
        "units": 150,
        "rows": 450,
        "recipe": {},
        "sources": {},
    }
    table = pa.Table.from_pylist(rows, schema=units.PLAN_SCHEMA)
    output = Output(str(tmp_path))
    (tmp_path / "_transdomain/plan").mkdir(parents=True)
    with pq.ParquetWriter(output.plan(0), table.schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(table, row_group_size=64)
        writer.add_key_value_metadata({"transdomain": json.dumps(head)})
    assert [segment.units for segment in load_segments(output)] == [150]
    assert list(load_units(output, 0)) == planned
    assert [load_unit(output, planned[i].id) for i in (0, 63, 64, 149)] == [planned[i] for i in (0, 63, 64, 149)]


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
    made = plan_units(source, limits, 3)
    sources = {"one": PlannedSource(url="u", passed_over=(PassedOver("links that lead nowhere", 2, "a.png"),))}
    common: dict[str, Any] = {"number": 3, "job": "pack", "sources": sources, "label": "night"}
    data = encode_segment([made], recipe={"b": 1, "a": [2]}, **common)
    assert data == encode_segment([made], recipe={"a": [2], "b": 1}, **common)
    segment = decode_segment(io.BytesIO(data), "plan")
    assert (segment.number, segment.job, segment.units, segment.label) == (3, "pack", len(made), "night")
    assert (segment.recipe, segment.sources) == ({"a": [2], "b": 1}, sources)
    assert decode_units(pq.read_table(io.BytesIO(data))) == list(made)


def test_impossible_limits_are_refused() -> None:
    with pytest.raises(UserError, match="rows is 0: it must be at least 1"):
        Limits(rows=0)


@settings(max_examples=30)
@given(grouped, limits, st.integers(1, 4))
def test_siblings_are_the_units_of_the_same_rows_in_each_part(source: Ranges, limits: Limits, parts: int) -> None:
    names, planned = [f"translator={i}" for i in range(parts)], []
    for part in names:
        planned.append(plan_units(source, limits, first=sum(map(len, planned)), part=part))
    output = Output(f"memory://{uuid.uuid4().hex}")
    storage.create(output.plan(0), encode_segment(planned, number=0, job="translate", recipe={}, sources={}))
    for unit in planned[0]:
        found = [load_unit(output, each) for each in siblings(output, unit.id, parts)]
        assert [each.part for each in found] == names
        assert {each.ranges for each in found} == {unit.ranges}
