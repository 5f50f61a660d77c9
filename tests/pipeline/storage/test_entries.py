"""Entries in columns: sorted as Python sorts names, and found by name and folder."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage import entries as columns
from pipeline.storage.entries import Columns, Entries, Entry

parts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), min_size=1, max_size=4)
names = st.lists(st.lists(parts, min_size=1, max_size=3).map("/".join), unique=True, max_size=30)


def entries_of(found: list[str]) -> Entries:
    held = Columns("s3://b/p")
    for i, name in enumerate(found):
        held.add(name, i, f"v{i}")
    return held.entries()


@given(names)
def test_they_are_sorted_as_python_sorts(found: list[str]) -> None:
    entries = entries_of(found)
    expected = sorted(Entry(name, f"s3://b/p/{name}", i, f"v{i}") for i, name in enumerate(found))
    assert list(entries) == expected == [entries[i] for i in range(len(entries))]
    assert entries.urls.to_pylist() == [entry.url for entry in expected]
    assert list(Entries.of(expected)) == expected


@given(names, parts)
def test_names_and_folders_are_found(found: list[str], other: str) -> None:
    entries = entries_of(found)
    for name in (*found, other):
        assert entries.has(name) is (name in found)
    for folder in {f"{name.split('/')[0]}/" for name in found} | {f"{other}/"}:
        below = sorted(name for name in found if name.startswith(folder))
        assert [entry.name for entry in entries[entries.below(folder)]] == below
        inside = entries.inside(folder)
        assert [entry.name for entry in inside] == [name.removeprefix(folder) for name in below]
        assert [entry.url for entry in inside] == [f"s3://b/p/{name}" for name in below]


def test_some_are_taken_by_number_or_by_mask() -> None:
    entries = entries_of(["c", "a", "b"])
    assert [entry.name for entry in entries.take(np.array([2, 0]))] == ["c", "a"]
    assert [entry.name for entry in entries.take(np.array([True, False, True]))] == ["a", "c"]
    assert [entry.name for entry in entries[1:]] == ["b", "c"]


def test_more_than_a_batch_is_whole(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(columns, "BATCH", 4)
    found = [f"{i:02}" for i in range(11, -1, -1)]
    entries = entries_of(found)
    assert [entry.name for entry in entries] == sorted(found)
    assert [name for batch in entries.name_batches() for name in batch] == sorted(found)
