"""Columns of tars that somebody else wrote."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.stores import ShardsDifferError, image_columns, open_store, read_rows
from pipeline.stores.forms.tars import foreign
from pipeline.stores.forms.tars.index import index_of
from pipeline.stores.forms.tars.ranges import in_memory
from tests.tars import tar_of, write_tar

Sample = Mapping[str, bytes]


def opened(samples: Sequence[Sample]) -> tuple[foreign.Layout, list[dict[str, Any]]]:
    """Return the layout of a tar of these samples, files by ending, and its rows."""
    data = tar_of((f"{i:03d}.{ending}", each) for i, files in enumerate(samples) for ending, each in files.items())
    index = index_of(in_memory(data), len(data))
    layout = foreign.infer(index, samples)
    rows = foreign.table_of(layout, layout.schema.names, index.keys.to_pylist(), samples, "a.tar")
    assert rows.schema == layout.schema
    return layout, rows.to_pylist()


def said(*objects: Any) -> list[Sample]:
    return [{"jpg": b"x", "json": json.dumps(each).encode()} for each in objects]


def test_what_img2dataset_writes_becomes_columns() -> None:
    fields = {
        "caption": "a dog",
        "url": "https://x",
        "key": "000",
        "status": "success",
        "error_message": None,
        "width": 7,
    }
    _, (row,) = opened([{"jpg": b"x", "txt": "ä dog".encode(), "json": json.dumps(fields).encode()}])
    assert row == {
        "key": "000", "image": {"bytes": b"x", "path": "000.jpg"}, "text": "ä dog", "json": None, "caption": "a dog",
        "url": "https://x", "json.key": "000", "status": "success", "error_message": None, "width": 7,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "kind", "held"),
    [
        ([1, 2, None], pa.int64(), [1, 2, None]),
        ([1, 2.5], pa.float64(), [1.0, 2.5]),
        ([True, None], pa.bool_(), [True, None]),
        ([[[0, 0, 4, 4]], []], pa.list_(pa.list_(pa.int64())), [[[0, 0, 4, 4]], []]),
        ([{"a": 1}, {"a": 2, "b": "x"}], None, [{"a": 1, "b": None}, {"a": 2, "b": "x"}]),
        ([1, "x"], pa.string(), ["1", '"x"']),
        ([1 << 70], pa.string(), [str(1 << 70)]),
        ([None, None], pa.string(), [None, None]),
        ([[], []], pa.string(), ["[]", "[]"]),
        ([True, 1], pa.string(), ["true", "1"]),
        (["\ud800"], pa.string(), ['"\\ud800"']),
    ],
)
def test_fields_have_the_type_that_holds_all_of_their_values(
    values: list[Any], kind: pa.DataType | None, held: list[Any]
) -> None:
    layout, rows = opened(said(*({"x": value} for value in values)))
    assert kind is None or layout.types["x"] == kind
    assert [row["x"] for row in rows] == held
    assert [row["json"] for row in rows] == [None] * len(values)


def test_what_fits_no_column_is_kept_as_text_and_said(caplog: pytest.LogCaptureFixture) -> None:
    samples = said({"x": 1}) * foreign.SAMPLES + said({"x": 1.5, "new": [1]}) + [{"jpg": b"x", "json": b"{no json"}]
    layout = foreign.infer(
        index_of(in_memory(data := tar_of([("0.jpg", b""), ("0.json", b"")])), len(data)), samples[:1]
    )
    with caplog.at_level(logging.WARNING):
        rows = foreign.table_of(layout, layout.schema.names, list(map(str, range(len(samples)))), samples, "a.tar")
    last = rows.select(["x", "json"]).to_pylist()[-2:]
    assert last == [{"x": None, "json": '{"x": 1.5, "new": [1]}'}, {"x": None, "json": "{no json"}]
    assert "a.tar: the .json of 2 samples, such as 256," in caplog.text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)


@given(
    objects=st.lists(st.dictionaries(st.sampled_from(["x", "y", "key", "json", "image"]), VALUES), max_size=5),
    first=st.integers(1, 5),
)
@settings(max_examples=80)
def test_every_field_is_in_its_column_or_in_the_rest(objects: list[dict[str, Any]], first: int) -> None:
    """The types are inferred from some of the samples, and must hold for whatever comes after them."""
    samples = said(*objects)
    data = tar_of([("0.jpg", b""), ("0.json", b"")])
    layout = foreign.infer(index_of(in_memory(data), len(data)), samples[:first])
    rows = foreign.table_of(layout, layout.schema.names, [str(i) for i in range(len(samples))], samples, "")
    for row, expected in zip(rows.to_pylist(), objects, strict=True):
        found = json.loads(row["json"] or "{}")
        for name in expected.keys() - found.keys():
            column = f"json.{name}" if name in ("key", "json", "image") else name
            value = row[column]
            assert _equal(json.loads(value) if column in layout.as_text and value else value, expected[name])
        assert all(_equal(value, expected[name]) for name, value in found.items())


def _equal(one: Any, other: Any) -> bool:
    """Return True where two values are the same, but for nulls in an object that has not all fields."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_equal(one.get(name), other.get(name)) for name in one.keys() | other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


@pytest.mark.parametrize(
    ("endings", "columns"),
    [
        (["jpg"], ["image"]),
        (["JPG"], ["image"]),
        (["a.jpg", "b.png"], ["image_a", "image_b"]),
        (["jpg", "seg.png"], ["image", "seg"]),
        (["image_a.jpg", "image_b.jpg"], ["image_a", "image_b"]),
        (["jpg", "png"], ["jpg", "png"]),
        (["input.jpg", "output.jpg"], ["input", "output"]),
    ],
)
def test_images_are_named_by_what_is_before_their_ending(endings: list[str], columns: list[str]) -> None:
    layout, (row,) = opened([dict.fromkeys(endings, b"x")])
    assert image_columns(layout.schema) == columns
    assert [row[name]["path"] for name in columns] == [f"000.{ending}" for ending in endings]


def test_samples_of_several_formats_share_a_column() -> None:
    _, rows = opened([{"jpg": b"1"}, {"png": b"2"}, {"cls": b" 7\n", "npy": b"3"}])
    assert [(row["image"] or {}).get("bytes") for row in rows] == [b"1", b"2", None]
    assert rows[2]["cls"] == 7
    assert rows[2]["npy"] == b"3"


def test_classes_that_are_no_numbers_are_text() -> None:
    layout, rows = opened([{"jpg": b"1", "cls": b"3"}, {"jpg": b"2", "cls": b"cat"}])
    assert [row["cls"] for row in rows] == ["3", "cat"]
    assert layout.types["cls"] == pa.string()


def test_tars_of_one_store_have_the_columns_of_the_first(tmp_path: Path) -> None:
    for i, value in enumerate((1, 2.5)):
        write_tar(f"{tmp_path}/{i}.tar", [(f"{i}.jpg", b"x"), (f"{i}.json", json.dumps({"x": value}).encode())])
    store = open_store(str(tmp_path))
    rows = read_rows(store.ranges)
    assert rows.select(["x", "json"]).to_pylist() == [{"x": 1, "json": None}, {"x": None, "json": '{"x": 2.5}'}]
    write_tar(f"{tmp_path}/2.tar", [("2.jpg", b"x"), ("2.npy", b"")])
    with pytest.raises(ShardsDifferError, match=r"2\.tar: differs from .*0\.tar: .* end in \.npy"):
        _ = open_store(str(tmp_path)).ranges


@pytest.mark.parametrize(
    ("data", "message"),
    [(tar_of([("a.jpg", b"x" * 5000)])[:3000], "a.tar is cut off: a.jpg"), (b"no tar" * 200, "a.tar is no tar")],
)
def test_a_tar_that_is_no_whole_one_ends_with_a_line(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(UserError, match=message):
        open_store(str(tmp_path))
