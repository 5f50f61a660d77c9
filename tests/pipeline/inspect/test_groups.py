"""Equal digests, however many rows there are: found against a plain count of all of them."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.inspect import groups
from pipeline.inspect.groups import Digests


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12)), max_size=60), st.sampled_from([1, 7, 1000]))
def test_as_a_plain_count_says(rows: list[tuple[int, int]], held: int) -> None:
    before, groups._ROWS = groups._ROWS, held
    try:
        with contextlib.ExitStack() as stack:
            digests = Digests(stack)
            for row, (split, content) in enumerate(rows):
                digests.add(split, [(bytes([content * 20]) + b"\0" * 15, row)])
            found = digests.equal()
    finally:
        groups._ROWS = before
    counted = Counter(rows)
    assert found.repeated == sum(count - 1 for count in counted.values())
    assert found.groups == sum(count > 1 for count in counted.values())
    for pair in itertools.combinations(range(3), 2):
        both = {c for s, c in rows if s == pair[0]} & {c for s, c in rows if s == pair[1]}
        assert found.shared[pair] == len(both)
    for (split, row), (other_split, other_row) in found.examples:
        assert split == other_split
        assert row < other_row
        assert rows[row] == rows[other_row]


@pytest.mark.parametrize("count", [0, 1])
def test_few_rows(count: int) -> None:
    with contextlib.ExitStack() as stack:
        digests = Digests(stack)
        digests.add(0, [(b"x" * 16, 0)] * count)
        assert digests.equal().groups == 0
