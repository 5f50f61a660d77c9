"""Files of labels: types and texts as they are, each key once, and each worker its own rows only."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import storage
from pipeline.errors import UserError
from pipeline.pack import joining
from pipeline.pack.joining import Lookup, encoded, joined, with_labels
from pipeline.pack.labels import Labels, read_labels

ROWS: list[dict[str, Any]] = [
    {"key": "b.png", "class": 3, "weight": 0.5, "zip": "007", "day": "2024-01-02", "night": True, "boxes": [[1, 2]]},
    {"key": "a.png", "class": -1, "weight": 2.0, "zip": "12", "day": "", "night": False, "boxes": []},
]
PLAIN = [{name: value for name, value in row.items() if name != "boxes"} for row in ROWS]


def write(folder: Path, ending: str) -> str:
    path = folder / f"labels{ending}"
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif ending == ".jsonl":
        path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    else:
        sign = {".csv": ",", ".tsv": "\t"}[ending]
        lines = [sign.join(PLAIN[0]), *(sign.join(str(value) for value in row.values()) for row in PLAIN)]
        path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    return str(path)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_types_and_texts_are_kept(tmp_path: Path, ending: str) -> None:
    labels = read_labels(write(tmp_path, ending))
    expected = PLAIN if ending in (".csv", ".tsv") else ROWS
    assert labels.keys.to_pylist() == ["b.png", "a.png"]
    assert labels.columns.to_pylist() == [{n: v for n, v in row.items() if n != "key"} for row in expected]
    kinds = {"class": "int64", "weight": "double", "zip": "string", "day": "string", "night": "bool"}
    assert {name: kind for name, kind in labels.types().items() if name in kinds} == kinds


def test_a_column_of_csv_that_is_not_all_numbers_is_text_and_an_empty_number_is_null(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text('file_name;n;t\n"a;b.png";1;1\nc.png;;x\nd.png;3;"two\nlines"\n')
    labels = read_labels(str(tmp_path / "l.csv"))
    assert labels.keys.to_pylist() == ["a;b.png", "c.png", "d.png"]
    assert labels.columns.to_pydict() == {"n": [1, None, 3], "t": ["1", "x", "two\nlines"]}


def test_rows_of_json_may_have_other_names(tmp_path: Path) -> None:
    (tmp_path / "l.jsonl").write_text(
        '{"key": "a", "x": 1}\n{"key": "b", "y": "z", "x": 1.5}\n{"key": ""}\n{"y": "q"}\n'
    )
    labels = read_labels(str(tmp_path / "l.jsonl"))
    assert labels.columns.to_pydict() == {"x": [1.0, 1.5], "y": [None, "z"]}
    assert labels.without_key == 2


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("l.csv", "key,x\na,1\nb,2\na,3\nb,4\n", "more than once: a, b; keep one row"),
        ("l.csv", "name,x\na,1\n", "no column key or file_name; it has name, x: name the right one by --labels_key"),
        ("l.csv", "key,x\na,1,2\n", "not readable as csv"),
        ("l.jsonl", '[{"key": 1}]', "has to be JSON lines"),
        ("l.jsonl", "3\n", "a line that is no object: 3"),
        ("l.parquet", "x", "not readable as parquet"),
        ("l.xlsx", "x", "its name has to end in"),
    ],
)
def test_what_is_no_file_of_labels_is_refused_with_what_to_do(
    tmp_path: Path, name: str, text: str, expected: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=expected.replace("(", r"\(")):
        read_labels(str(tmp_path / name))


def of(keys: list[str]) -> Labels:
    return Labels("l.csv", "0" * 16, pa.array(keys, pa.large_string()), pa.table({"n": range(len(keys))}), 0)


def test_rows_and_images_that_do_not_meet_are_counted() -> None:
    met = joined(pa.array(["a", "b", "c"], pa.large_string()), of(["c", "a", "x", "y"]), "key", "in")
    assert (met.both, met.images.to_pylist(), met.rows.to_pylist()) == (2, ["b"], ["x", "y"])


def test_labels_that_name_no_image_are_refused_and_stems_are_offered() -> None:
    keys = pa.array(["a/1.png", "a/2.png"], pa.large_string())
    with pytest.raises(UserError, match="add --labels_match stem"):
        joined(keys, of(["a/1"]), "key", "in")
    assert joined(keys, of(["a/1"]), "stem", "in").both == 1
    with pytest.raises(UserError, match=r"it has q, the images have a/1.png; give the right column as --labels_key"):
        joined(keys, of(["q"]), "key", "in")
    with pytest.raises(UserError, match=r"x.jpg, x.png have the same key without its ending"):
        joined(pa.array(["x.jpg", "x.png"], pa.large_string()), of(["x"]), "stem", "in")


@settings(max_examples=40)
@given(st.sets(st.text(max_size=3), max_size=40), st.lists(st.text(max_size=3), unique=True, max_size=10))
def test_a_worker_finds_the_row_of_each_key(there: set[str], asked: list[str]) -> None:
    labels = of(list(there - {""}))
    rows = dict(zip(labels.keys.to_pylist(), range(len(labels.keys)), strict=True))
    found = lookup(labels, 7).rows_of(asked)
    assert found["n"].to_pylist() == [rows.get(key) for key in asked]


def lookup(labels: Labels, group_rows: int) -> Lookup:
    """Return a lookup of labels in memory, with row groups of so many rows."""
    url = f"memory://labels/{hash((tuple(labels.keys.to_pylist()), group_rows)):x}.parquet"
    before, joining._GROUP_ROWS = joining._GROUP_ROWS, group_rows
    try:
        storage.replace(url, encoded(labels))
    finally:
        joining._GROUP_ROWS = before
    return Lookup(url, labels.columns.schema, "key")


def test_a_worker_reads_only_the_row_groups_around_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, read = of([f"{i:04d}" for i in range(1000)]), list[int]()
    found, group = lookup(labels, 10), joining._group
    monkeypatch.setattr(joining, "_group", lambda url, number: (read.append(number), group(url, number))[1])
    rows = with_labels(pa.table({"key": [f"{i:04d}" for i in range(105, 125)]}), found)
    assert rows["n"].to_pylist() == list(range(105, 125))
    assert read == [10, 11, 12]


def test_the_same_rows_give_the_same_object_whatever_their_order() -> None:
    one = Labels("l", "", pa.array(["a", "b"], pa.large_string()), pa.table({"n": [1, 2]}), 0)
    two = Labels("l", "", pa.array(["b", "a"], pa.large_string()), pa.table({"n": [2, 1]}), 0)
    assert encoded(one) == encoded(two)
    assert pq.read_table(io.BytesIO(encoded(one)))["key"].to_pylist() == ["a", "b"]
