from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import storage
from pipeline.engine.estimate import drawing
from pipeline.engine.estimate.drawing import draw_rows, merged, pile_of, piles_left
from pipeline.engine.records.layout import Output, load_segments
from pipeline.engine.records.limits import Limits
from pipeline.engine.records.units import PlannedSource, Unit, encode_segment, plan_units
from pipeline.stores.tables.ranges import Range, Ranges

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def units_of(sizes: list[int], *, size: int = 100) -> list[Unit]:
    return [
        Unit(f"000000-{i:06d}", (Range(f"{i}.parquet", f"u/{i}.parquet", "v", 5, 5 + rows, size * rows),))
        for i, rows in enumerate(sizes)
    ]


def rows_of(ranges: list[Range]) -> list[tuple[str, int]]:
    return [(each.shard, row) for each in ranges for row in range(each.start, each.stop)]


@given(SIZES, st.integers(1, 60), st.integers(1, 6))
def test_rows_are_drawn_once_each_about_as_many_as_wanted_and_always_the_same(
    sizes: list[int], count: int, run: int
) -> None:
    units = units_of(sizes)
    drawn = draw_rows(units, count, run=run)
    found, there = rows_of(drawn), rows_of([each for unit in units for each in unit.ranges])
    assert len(found) == len(set(found))
    assert set(found) <= set(there)
    assert found == sorted(found, key=there.index)
    assert 0 < len(found) < count + run or len(found) == len(there)
    assert drawn == draw_rows(units, count, run=run)
    if run == 1:
        assert len(found) == min(count, len(there))


def test_row_groups_that_are_too_large_are_passed_over() -> None:
    units = units_of([3, 30])
    assert {each.shard for each in draw_rows(units, 50, most_bytes=1000)} == {"0.parquet"}
    assert draw_rows(units, 50, most_bytes=10) == []
    assert draw_rows([], 5) == []


def test_the_draw_is_from_all_of_the_corpus() -> None:
    shards = {int(each.shard.split(".")[0]) for each in draw_rows(units_of([1] * 1000), 64)}
    assert len(shards) == 64
    assert min(shards) < 100
    assert max(shards) > 900


@settings(max_examples=25)
@given(st.lists(st.sampled_from([".png", ".JPG", ".jpg", ""]), min_size=1, max_size=30), st.integers(1, 8))
def test_a_pile_adds_up_whether_it_is_planned_just_now_or_read_from_a_plan(endings: list[str], rows: int) -> None:
    root = storage.absolute("memory://piles")
    for entry in storage.list_files(root):
        storage.delete(entry.url)
    ranges = Ranges.of(
        [Range(f"{i:03d}/a{end}", f"u/{i:03d}/a{end}", "v", 0, 1, i + 1) for i, end in enumerate(endings)]
    )
    units, output = plan_units(ranges, Limits(rows=rows)), Output(root)
    fresh = pile_of(units)
    assert (fresh.units, fresh.rows, fresh.size) == (len(units), len(endings), sum(range(1, len(endings) + 1)))
    assert sum(count for count, _ in fresh.endings.values()) == len(endings)
    assert all(ending == ending.lower() for ending in fresh.endings)
    data = encode_segment([units], number=0, job="x", recipe={}, sources={"": PlannedSource(url="u")})
    storage.create(output.plan(0), data)
    (read,) = piles_left(output, load_segments(output), ())
    assert (read.units, read.rows, read.size, read.endings) == (fresh.units, fresh.rows, fresh.size, fresh.endings)
    assert [unit.id for unit in read.drawn] == [unit.id for unit in fresh.drawn]  # all of them: they are few
    assert read.shards == 0
    assert piles_left(output, load_segments(output), [unit.id for unit in units]) == []
    left = piles_left(output, load_segments(output), [units[0].id])
    assert sum(pile.units for pile in left) == len(units) - 1


def test_few_units_of_many_are_held() -> None:
    ranges = Ranges.of([Range(f"{i:05d}.png", f"u/{i:05d}.png", "v", 0, 1, 1) for i in range(2000)])
    pile = pile_of(plan_units(ranges, Limits(rows=1)))
    assert len(pile.drawn) == drawing.MOST_UNITS
    output = Output(storage.absolute("memory://many"))
    data = encode_segment(
        [plan_units(ranges, Limits(rows=1))], number=0, job="x", recipe={}, sources={"": PlannedSource(url="u")}
    )
    storage.replace(output.plan(0), data)
    (left,) = piles_left(output, load_segments(output), ())
    numbers = [int(unit.id[-6:]) for unit in left.drawn]
    assert len(numbers) == len(set(numbers)) == drawing.MOST_UNITS
    assert min(numbers) < 400
    assert max(numbers) > 1600


def test_endings_are_added_up() -> None:
    assert merged([{".a": (1, 2)}, {".a": (3, 4), ".b": (5, 6)}]) == {".a": (4, 6), ".b": (5, 6)}
