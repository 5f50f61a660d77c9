"""Ranges in columns: the same as the objects that they stand for, whatever is done to them."""

from __future__ import annotations

import gc
import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage.entries import Columns
from pipeline.stores.tables import ranges as tables
from pipeline.stores.tables.ranges import MOST_BYTES, Pieces, Range, Ranges, cut_range, first_rows, joined

groups = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 900)), max_size=6)
stores = st.lists(groups, max_size=6)


def objects_of(shards: list[list[tuple[int, int]]]) -> list[Range]:
    found = []
    for number, row_groups in enumerate(shards):
        start = 0
        for rows, size in row_groups:
            name = f"s{number}"
            found.append(Range(name, f"u/{name}", f"v{number}", start, start + rows, size, "one"))
            start += rows
    return found


@given(stores, st.integers(0, 40), st.integers(0, 40))
def test_columns_are_the_objects_that_they_stand_for(
    shards: list[list[tuple[int, int]]], first: int, stop: int
) -> None:
    objects = objects_of(shards)
    columns = Ranges.of(objects)
    assert list(columns) == objects == [columns[i] for i in range(len(columns))]
    assert list(columns[first:stop]) == objects[first:stop]
    assert columns.rows == sum(piece.rows for piece in objects)
    assert pickle.loads(pickle.dumps(columns)) == columns
    assert (columns[first:stop] == columns) is (objects[first:stop] == objects)


@given(stores, st.integers(1, 10), st.integers(1, 200))
def test_they_are_cut_and_joined_like_one_at_a_time(
    shards: list[list[tuple[int, int]]], max_rows: int, max_bytes: int
) -> None:
    objects = objects_of(shards)
    columns = Ranges.of(objects)
    pieces = [piece for whole in objects for piece in cut_range(whole, max_rows, max_bytes)]
    cut = columns.cut(max_rows, max_bytes)
    assert list(cut) == pieces
    merged, at = cut.joined(np.zeros(0, np.int64))
    assert list(merged) == list(joined(pieces))
    assert not columns.is_cut(max_rows, max_bytes) or list(cut) == list(merged) == objects
    assert [cut[int(i)].start for i in at] == [piece.start for piece in merged]
    apart, _ = cut.joined(np.arange(len(cut)))
    assert list(apart) == pieces


@given(stores, st.integers(0, 100))
def test_the_first_rows_are_found(shards: list[list[tuple[int, int]]], count: int) -> None:
    objects = [piece for piece in objects_of(shards) if piece.rows]
    assert list(Ranges.of(objects).first_rows(count)) == first_rows(objects, count)


@given(stores, st.sets(st.integers(0, 5)))
def test_the_ranges_of_some_shards(shards: list[list[tuple[int, int]]], wanted: set[int]) -> None:
    columns = Ranges.of(objects_of(shards))
    which = np.array(sorted(number for number in wanted if number < len(columns.shards)), np.int64)
    names = {columns.shards[int(number)].name for number in which}
    assert list(columns.of_shards(which)) == [piece for piece in columns if piece.shard in names]
    sizes = [sum(piece.size for piece in columns if piece.shard == columns.shards[int(n)].name) for n in which]
    assert columns.sizes_of(which).tolist() == sizes


def test_a_size_beyond_64_bits_times_rows_is_shared_exactly() -> None:
    whole = Range("s", "u/s", "v", 0, 3_000_001, 2**62 + 7)
    cut = Ranges.of([whole]).cut(1_000_000, 2**61)
    assert list(cut) == list(cut_range(whole, 1_000_000, 2**61))


def test_a_large_row_group_comes_in_even_pieces() -> None:
    columns, pieces = Columns("u"), Pieces()
    columns.add("s", 9, "v")
    pieces.add(0, [100, 0, 40], [3 * MOST_BYTES, 0, 8])
    found = pieces.ranges(columns.entries())
    assert [(piece.start, piece.stop) for piece in found] == [(0, 33), (33, 66), (66, 100), (100, 140)]
    assert sum(piece.size for piece in found) == 3 * MOST_BYTES + 8


def test_limits_beyond_32_bits_leave_small_ranges_as_they_are() -> None:
    columns, pieces = Columns("u"), Pieces()
    columns.add("s", 9, "v")
    pieces.add(0, [3, 0, 4], [5, 0, 6])
    found = pieces.ranges(columns.entries())
    assert found.size.dtype == np.int32
    assert list(found.cut(10**11, 10**12)) == list(found) == list(found._at(np.array([True, True])).cut(4, 10**12))
    wide = Pieces()
    wide.add(0, [3, 4], [5, 2**40])
    assert wide.ranges(columns.entries()).rows == 7


def test_no_object_is_kept_for_a_shard_or_a_range() -> None:
    columns, pieces = Columns("u"), Pieces()
    for number in range(5000):
        columns.add(f"{number:05}", 9, "v")
        pieces.add(number, [3, 4], [5, 6])
    shards = columns.entries()
    found = [pieces.ranges(shards), tables.whole_shards(shards)]
    assert [sum(1 for _ in each) for each in found] == [10_000, 5000]
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, Range)]
