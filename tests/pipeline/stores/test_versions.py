"""Which version readers see: of each slot the newest whole one, once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import storage
from pipeline.errors import DamagedError
from pipeline.storage import Entry
from pipeline.stores import versions
from pipeline.stores.versions import WHOLE, Version

SLOTS = ("a", "b", "c", "aa")
of_slots = st.lists(st.sets(st.sampled_from(SLOTS), min_size=1), max_size=5)


def listed(number: int, labels: tuple[str, ...]) -> storage.Entries:
    """Return the data of a version: a shard of each slot."""
    base = f"{versions.root_of('/out', number)}/data"
    names = [f"slot={label}/translator=night/000000-000000.parquet" for label in sorted(labels)]
    return storage.Entries.of([Entry(name, f"{base}/{name}", number, f"v{number}") for name in names])


def version(number: int, labels: tuple[str, ...]) -> Version:
    return Version(number, labels, "f", {"night": "0"}, dict.fromkeys(labels, 1))


@given(of_slots, st.data())
def test_each_slot_is_read_once_of_its_newest_whole_version(labels: list[set[str]], data: st.DataObject) -> None:
    begun = [version(number, tuple(sorted(each))) for number, each in enumerate(labels, 2)]
    whole = [each for each in begun if data.draw(st.booleans())]
    newest = versions.current(data.draw(st.permutations(whole)))
    found = versions.current_data(listed(1, SLOTS), newest, lambda n: listed(n, begun[n - 2].labels))
    expected = {slot: max([1, *(each.number for each in whole if slot in each.labels)]) for slot in SLOTS}
    assert {entry.name.split("/")[0].removeprefix("slot="): entry.size for entry in found} == expected
    assert len(found) == len(SLOTS)
    assert list(found.names.to_pylist()) == sorted(found.names.to_pylist())
    for i, entry in enumerate(found):
        assert entry.url == f"{versions.root_of('/out', entry.size)}/data/{entry.name}"
        assert (found[i], found[i : i + 1][0], found.urls[i].as_py()) == (entry, entry, entry.url)


def test_names_below_a_folder_belong_to_its_slot() -> None:
    newest = {"a": 2}
    inside = {n: listed(n, ("a", "b") if n == 1 else ("a",)).inside("slot=a/") for n in (1, 2)}
    found = versions.current_data(inside[1], newest, inside.__getitem__, "slot=a/")
    assert [entry.size for entry in found] == [2]


def test_a_version_of_the_whole_output_replaces_all_of_it() -> None:
    found = versions.current_data(listed(1, ("a",)), {WHOLE: 3}, lambda n: listed(n, ("b", "c")))
    assert [entry.size for entry in found] == [3, 3]


def test_a_damaged_record_is_named() -> None:
    record = version(2, ("a", "b"))
    assert versions.decode_version(versions.encode_version(record), "x") == record
    with pytest.raises(DamagedError, match="x is damaged"):
        versions.decode_version(b"{}", "x")
