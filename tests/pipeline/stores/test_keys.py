"""Keys that clash, found before any work; and the names of files that keys become."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import storage
from pipeline.stores import duplicate_source_keys, file_and_folder_keys, open_store
from pipeline.stores import keys as search
from pipeline.stores.forms import naming, parquet

PARTS = st.text("._%a25EF", min_size=1, max_size=5).filter(lambda part: part not in (".", ".."))


def test_keys_that_occur_twice_are_found_with_both_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, keys in {"a": ["1", "2", None], "b": ["2", "3", None], "c": ["4", "4"]}.items():
        pq.write_table(pa.table({"image": ["x"] * len(keys), "key": keys}), tmp_path / f"{name}.parquet")
    asked = []
    read_range = parquet.read_range
    monkeypatch.setattr(parquet, "read_range", lambda r, columns: asked.append(columns) or read_range(r, columns))
    a, b, c = (f"{tmp_path}/{name}.parquet" for name in "abc")
    assert duplicate_source_keys([open_store(str(tmp_path))]) == [("2", a, b), ("4", c, c)]
    assert duplicate_source_keys([open_store(str(tmp_path))], most=1) == [("2", a, b)]
    assert duplicate_source_keys([open_store(a)]) == []
    assert duplicate_source_keys([open_store(a), open_store(b)]) == [("2", a, b)]
    assert set(map(tuple, asked)) == {("key",)}


def test_keys_that_cannot_clash_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "0.parquet")
    storage.replace(f"{tmp_path}/images/0.png", b"x")
    shards, files = open_store(f"{tmp_path}/0.parquet"), open_store(f"{tmp_path}/images")
    monkeypatch.setattr(parquet, "read_range", None)
    assert duplicate_source_keys([shards]) == duplicate_source_keys([files]) == []
    assert duplicate_source_keys([files, shards]) == []
    assert duplicate_source_keys([files, files]) == [("0.png", f"{tmp_path}/images/0.png", f"{tmp_path}/images/0.png")]
    assert duplicate_source_keys([shards, shards])[0][0] == "0.parquet#000000000"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.text("ab", max_size=6), max_size=20), max_size=20))
def test_keys_that_occur_twice_are_those_by_a_count(monkeypatch: pytest.MonkeyPatch, batches: list[list[str]]) -> None:
    monkeypatch.setattr(search, "_NAMES", 7)  # so that hashes are written many times
    count = Counter(key for batch in batches for key in batch)
    assert search.duplicate_keys(lambda: batches, most=100) == sorted(key for key, times in count.items() if times > 1)


def test_keys_that_are_file_and_folder_at_once() -> None:
    batches = [["a", "b/c", "d.png/x"], ["a.png/b", "a.png/b/c", "e.jpg/f", "e", "g.png"], ["g.png.png/h/i"]]
    assert file_and_folder_keys(lambda: batches, "png") == [("a", "a.png/b"), ("g.png", "g.png.png/h/i")]
    assert file_and_folder_keys(lambda: batches, "png", most=1) == [("a", "a.png/b")]
    assert file_and_folder_keys(lambda: batches, "webp") == []


@given(st.lists(st.lists(PARTS, min_size=1, max_size=3).map("/".join), unique=True))
def test_no_two_keys_are_one_file_and_no_file_is_hidden(keys: list[str]) -> None:
    names = [naming.file_name(key, "png") for key in keys]
    assert len(set(names)) == len(names)
    assert not any(part.startswith((".", "__")) for name in names for part in name.split("/"))


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a/_DSC1.JPG", "a/_DSC1.JPG.png"), (".a/.b", "%2Ea/%2Eb.png"), ("__x/y", "%5F_x/y.png"),
        ("%2Ea", "%252Ea.png"), ("50%", "50%.png"),
    ],
)  # fmt: skip
def test_names_that_readers_hide_are_escaped(key: str, name: str) -> None:
    assert naming.file_name(key, "png") == name


@given(st.text(st.sampled_from(".%_/aF2\n\x1b\u202e"), max_size=8), st.text(st.sampled_from(".%_/aF2\n"), max_size=8))
def test_names_of_files_show_what_they_are_and_turn_back_into_keys(one: str, other: str) -> None:
    names = [naming.file_name(key, "png") for key in (one, other)]
    assert [unquote(name).removesuffix(".png") for name in names] == [one, other]
    assert names[0].isprintable()
