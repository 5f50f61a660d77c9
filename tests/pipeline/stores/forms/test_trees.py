"""Pairs of files from two folders: each file is in one pair or named with the reason, whatever the names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import storage
from pipeline.errors import UserError
from pipeline.stores import SourceChangedError, read_rows, read_unchanged_rows
from pipeline.stores.forms import trees
from pipeline.stores.forms.trees import Trees, pair_up


def entries(tree: str, names: list[str]) -> storage.Entries:
    listed = [storage.Entry(name, f"/{tree}/{name}", i + 1, f"v{i}") for i, name in enumerate(sorted(names))]
    return storage.Entries.of(listed) if listed else storage.Entries.of([])


STEMS = st.sets(st.text("aé.# _", min_size=1, max_size=4).map(lambda stem: f"{stem}x"), max_size=8)


@given(STEMS, STEMS, st.sampled_from(["jpg", "PNG"]))
def test_every_file_is_in_one_pair_or_alone(in_a: set[str], in_b: set[str], ending: str) -> None:
    a, b = entries("a", [f"{stem}.jpg" for stem in in_a]), entries("b", [f"{stem}.{ending}" for stem in in_b])
    found = pair_up(a, b)
    assert [trees.key_of(name) for name in found.entries.names.to_pylist()] == sorted(in_a & in_b)
    for entry in found.entries:
        key = trees.key_of(entry.name)
        assert entry.url == f"/a/{key}.jpg\t/b/{key}.{ending}"
        versions = (e.version for each, end in ((a, "jpg"), (b, ending)) for e in each if e.name == f"{key}.{end}")
        assert entry.version == "\t".join(versions)
    alone = {(row["tree"], row["name"].rsplit(".", 1)[0]) for row in found.alone.to_pylist()}
    assert alone == {("a", stem) for stem in in_a - in_b} | {("b", stem) for stem in in_b - in_a}
    assert sum(each.count for each in trees.passed_over(found)) == len(found.alone)


def test_a_pattern_says_what_names_have_in_common() -> None:
    a = entries("a", ["day/001_rain.png", "day/002_rain.png", "readme_image.png"])
    b = entries("b", ["001_clear.png", "003_clear.png"])
    found = pair_up(a, b, r"(\d+)_[a-z]+\.png$")
    assert found.entries.names.to_pylist() == ["001.a+b"]
    reasons = {row["name"]: row["reason"] for row in found.alone.to_pylist()}
    assert reasons == {
        "day/002_rain.png": "no partner",
        "readme_image.png": "name does not match --pair_by",
        "003_clear.png": "no partner",
    }


def test_several_candidates_are_refused_with_their_names() -> None:
    with pytest.raises(UserError, match=r"2 files for the key 'x': x.jpg, x.png; keep one"):
        pair_up(entries("a", ["x.jpg", "x.png", "y.png"]), entries("b", ["x.png"]))


def test_a_tab_in_a_name_is_refused() -> None:
    with pytest.raises(UserError, match="a name with a tab"):
        pair_up(entries("a", ["x\ty.png"]), entries("b", ["x\ty.jpg"]))


def test_a_pair_is_read_by_columns_and_changes_of_either_file_are_seen(any_prefix: str) -> None:
    stores = []
    for tree in "ab":
        url = storage.join(any_prefix, tree)
        for i in range(2):
            storage.replace(f"{url}/{i}.png", f"{tree}{i}".encode())
        stores.append(storage.list_files(url))
    store = Trees().open("a + b", pair_up(*stores).entries)
    rows = read_rows(list(store.ranges))
    assert rows["key"].to_pylist() == ["0", "1"]
    assert [row["bytes"] for row in rows["image_b"].to_pylist()] == [b"b0", b"b1"]
    only = read_rows(list(store.ranges), ["image_a"], wants="1".__eq__)
    assert (only.column_names[:2], only["key"].to_pylist()) == (["key", "image_a"], ["1"])
    storage.replace(f"{storage.join(any_prefix, 'b')}/1.png", b"another one")
    with pytest.raises(SourceChangedError, match=r"b/1\.png has changed"):
        read_rows(list(store.ranges), [])
    left, lost = read_unchanged_rows(list(store.ranges), store.schema)
    assert (left["key"].to_pylist(), [key for key, _, _ in lost]) == (["0"], ["1"])
