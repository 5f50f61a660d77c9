"""Columns of shards as rows have them: keys, folders' names, views, features, and names that are kept for jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.engine.publishing.reading import read_unit
from pipeline.engine.records.limits import Limits
from pipeline.engine.records.units import Unit, plan_units
from pipeline.errors import UserError
from pipeline.storage import PassedOver
from pipeline.stores import SHARD, Store, open_store, read_rows
from pipeline.stores.forms.parquet import no_rows
from pipeline.stores.forms.shard import encode_shard
from pipeline.stores.selection import Selection
from pipeline.stores.tables.features import features_of
from pipeline.stores.tables.schema import empty_shards

CLASSES = {"names": ["cat", "dog"], "_type": "ClassLabel"}


def shard(path: Path, columns: dict[str, Any], features: dict[str, Any] | None = None, **options: Any) -> Path:
    table = pa.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def rows_of(store: Store, columns: list[str] | None = None) -> list[dict[str, Any]]:
    return read_rows(store.ranges, columns).to_pylist()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (pa.array(["a", "b"]), ["a", "b"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array(["a", "b"], pa.string_view()), ["a", "b"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([-7, 2**60]), ["-7", "1152921504606846976"]),
        (pa.array([1, 2**64 - 1], pa.uint64()), ["1", "18446744073709551615"]),
    ],
)
def test_texts_and_whole_numbers_are_keys(tmp_path: Path, keys: pa.Array, expected: list[str]) -> None:
    store = open_store(str(shard(tmp_path / "in/0.parquet", {"x": [1, 2], "key": keys}).parent))
    rows = read_rows(store.ranges)
    assert rows["key"].to_pylist() == expected
    assert rows.schema.field("key").type == store.schema.field("key").type == pa.string()
    assert Selection(0, 0.0, 1.0).wants(rows["key"][0].as_py())


@pytest.mark.parametrize(
    "keys",
    [
        pa.array([b"a"]), pa.array([1.5]), pa.array([True]), pa.array([["a"]]),
        pa.array([0], pa.timestamp("s")), pa.array([b"a"]).dictionary_encode(), pa.array([{"a": 1}]),
    ],
    ids=lambda keys: str(keys.type),
)  # fmt: skip
def test_what_cannot_be_a_key_is_refused_before_any_work(tmp_path: Path, keys: pa.Array) -> None:
    shard(tmp_path / "0.parquet", {"key": keys})
    with pytest.raises(UserError, match=r"its column key is .* keys are text, whole numbers or UUIDs; write it as"):
        open_store(str(tmp_path))


def test_a_row_without_a_key_is_named_by_shard_and_number(tmp_path: Path) -> None:
    shard(tmp_path / "a.parquet", {"key": ["p", None, "q", None], "x": [0, 1, 2, 3]}, row_group_size=3)
    shard(tmp_path / "b.parquet", {"key": ["r"], "x": [4]})
    store = open_store(str(tmp_path))
    halves = Selection(0, 0.0, 0.5), Selection(0, 0.5, 1.0)
    wanted = [read_rows(store.ranges, ["x"], wants=half.wants)["x"].to_pylist() for half in halves]
    assert sorted(wanted[0] + wanted[1]) == [0, 1, 2, 3, 4]
    unit = Unit("000000-000000", tuple(store.ranges))
    rows, quarantined, _ = read_unit(unit)
    assert rows.column_names == ["key", "x", SHARD]
    assert [(row["x"], row["key"]) for row in rows.to_pylist()] == [
        (0, "p"), (1, "a.parquet#000000001"), (2, "q"), (3, "a.parquet#000000003"), (4, "r"),
    ]  # fmt: skip
    assert not quarantined
    (tmp_path / "a.parquet").unlink()
    left, _, _ = read_unit(unit, without_changed=store.schema)
    assert left.column_names == rows.column_names


def test_groups_and_shards_without_rows_are_no_work(tmp_path: Path) -> None:
    schema = pa.schema([("x", pa.int64())])
    with pq.ParquetWriter(tmp_path / "a.parquet", schema) as writer:
        for part in ([1, 2], [], [3]):
            writer.write_table(pa.table({"x": pa.array(part, pa.int64())}))
    pq.write_table(schema.empty_table(), tmp_path / "b.parquet")
    store = open_store(str(tmp_path))
    assert [(r.start, r.stop) for r in store.ranges] == [(0, 2), (2, 3)]
    assert empty_shards(store.shards, np.arange(2), store.ranges) == (
        PassedOver("shards without rows", 1, "b.parquet"),
    )
    (unit,) = plan_units(store.ranges, Limits())
    assert read_rows(unit.ranges)["x"].to_pylist() == [1, 2, 3]


def test_columns_in_the_names_of_folders_are_columns(tmp_path: Path) -> None:
    shard(tmp_path / "split=a/cls=big%20cat/0.parquet", {"x": [1, 2]})
    shard(tmp_path / "split=b/cls=__HIVE_DEFAULT_PARTITION__/0.parquet", {"x": [3]})
    store = open_store(str(tmp_path))
    assert store.schema.names == ["x", "split", "cls"]
    assert [(row["x"], row["split"], row["cls"]) for row in rows_of(store)] == [
        (1, "a", "big cat"), (2, "a", "big cat"), (3, "b", None),
    ]  # fmt: skip
    assert [tuple(row.values()) for row in rows_of(store, ["cls"])] == [
        ("split=a/cls=big%20cat/0.parquet#000000000", "big cat", "split=a/cls=big%20cat/0.parquet"),
        ("split=a/cls=big%20cat/0.parquet#000000001", "big cat", "split=a/cls=big%20cat/0.parquet"),
        (f"{(null := 'split=b/cls=__HIVE_DEFAULT_PARTITION__/0.parquet')}#000000000", None, null),
    ]
    assert no_rows(store.schema, ["cls"]).schema == read_rows(store.ranges, ["cls"]).schema
    shard(tmp_path / "0.parquet", {"x": [4]})
    with pytest.raises(UserError, match=r"columns differ .* split: string unexpected; cls: string unexpected"):
        open_store(str(tmp_path)).ranges  # noqa: B018


def test_a_shard_is_believed_before_its_path(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shard(tmp_path / "cls=a/month=05/0.parquet", {"x": [1], "cls": ["a"], "month": [5]})
    assert rows_of(open_store(str(tmp_path)))[0]["cls"] == "a"
    assert not caplog.text
    shard(tmp_path / "cls=b/month=06/0.parquet", {"x": [1], "cls": ["c"], "month": [6]})
    assert [row["cls"] for row in rows_of(open_store(str(tmp_path)))] == ["a", "c"]
    assert "cls is c in it and b in its path; the shard is believed" in caplog.text
    shard(tmp_path / "in/key=7/0.parquet", {"x": [1]})
    with pytest.raises(UserError, match="a folder cannot name the column key"):
        open_store(str(tmp_path / "in"))


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (pa.table({"_transdomain.pixels": [1]}), "begin with _transdomain. are kept for jobs"),
        (pa.Table.from_arrays([pa.array([1])] * 2, ["x", "x"]), "has several columns x"),
    ],
)
def test_names_that_would_clash_are_refused(tmp_path: Path, table: pa.Table, match: str) -> None:
    pq.write_table(table, tmp_path / "0.parquet")
    with pytest.raises(UserError, match=match):
        open_store(str(tmp_path))


def test_views_are_read_as_what_rows_can_be_taken_of(tmp_path: Path) -> None:
    picture = pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])
    columns = {
        "image": pa.array([{"bytes": b"x", "path": "p"}, None], picture),
        "list": pa.array([["a"], []], pa.list_(pa.string_view())),
        "map": pa.array([[("a", 1)], []], pa.map_(pa.string_view(), pa.int8())),
        "views": pa.array([["a"], ["b"]], pa.list_view(pa.string_view())),
        "plain": pa.array([[1], [2]], pa.list_view(pa.int8())),
        "fixed": pa.array([["a"], ["b"]], pa.list_(pa.string_view(), 1)),
    }
    store = open_store(str(shard(tmp_path / "0.parquet", columns)))
    rows = read_rows(store.ranges)
    assert rows.select(list(columns)).schema == store.schema
    taken = rows.take(pa.array([1, 0])).to_pylist()
    assert taken[1]["image"] == {"bytes": b"x", "path": "p"}
    assert [(row["views"], row["plain"], row["fixed"]) for row in taken] == [(["b"], [2], ["b"]), (["a"], [1], ["a"])]
    assert not {"string_view", "binary_view"} & set(str(rows.schema).split())


def test_extension_types_dictionaries_and_fields_stay_what_they_are(tmp_path: Path) -> None:
    features = datasets.Features({"grid": datasets.Array2D((2, 2), "float32"), "word": datasets.Value("string")})
    path = tmp_path / "in/0.parquet"
    path.parent.mkdir()
    datasets.Dataset.from_dict({"grid": [[[1, 2], [3, 4]]], "word": ["a"]}, features=features).to_parquet(path)
    table = pq.read_table(path).append_column("kind", pa.array(["a"]).dictionary_encode())
    named = pa.field("note", pa.int64(), metadata={"unit": "m", "PARQUET:field_id": "9"})
    pq.write_table(table.append_column(named, pa.array([1])), path)
    rows = read_rows(open_store(str(path)).ranges)
    (tmp_path / "out.parquet").write_bytes(encode_shard(rows, {}))
    found = pq.read_schema(tmp_path / "out.parquet")
    assert found.field("grid").type == pq.read_schema(path).field("grid").type
    assert found.field("kind").type == table.schema.field("kind").type
    assert found.field("note").metadata[b"unit"] == b"m"
    loaded = datasets.Dataset.from_parquet(str(tmp_path / "out.parquet"), cache_dir=str(tmp_path / "cache"))
    assert loaded.features["grid"] == features["grid"]


def test_what_shards_say_of_their_columns_is_one_for_all(tmp_path: Path) -> None:
    shard(tmp_path / "0.parquet", {"label": [0], "x": [1]})
    shard(tmp_path / "1.parquet", {"label": [1], "x": [1]}, {"label": CLASSES})
    store = open_store(str(tmp_path))
    assert features_of(read_rows(store.ranges).schema) == {"label": CLASSES}
    shard(tmp_path / "2.parquet", {"label": [1], "x": [1]}, {"label": CLASSES | {"names": ["dog", "cat"]}})
    with pytest.raises(UserError, match=r"columns differ .* label: class 0 is 'dog' instead of 'cat'"):
        open_store(str(tmp_path)).ranges_of(np.array([2]))
    assert open_store(str(tmp_path), alike=False).schema.names == ["x"]


def test_classes_deep_in_a_column_are_compared_and_what_they_are_in_is_not(tmp_path: Path) -> None:
    boxes = pa.array([[{"kind": 0}]])
    for number, outer in enumerate(("Sequence", "List")):
        feature = {"feature": {"kind": CLASSES}, "_type": outer}
        shard(tmp_path / f"{number}.parquet", {"boxes": boxes}, {"boxes": feature})
    assert open_store(str(tmp_path)).rows == 2
    three = {"feature": {"kind": CLASSES | {"names": ["cat", "dog", "owl"]}}, "_type": "Sequence"}
    shard(tmp_path / "2.parquet", {"boxes": boxes}, {"boxes": three})
    with pytest.raises(UserError, match="boxes: 3 classes instead of 2"):
        open_store(str(tmp_path)).ranges  # noqa: B018


def test_what_a_shard_says_of_keys_that_come_as_another_type_goes(tmp_path: Path) -> None:
    said = {"key": {"dtype": "int64", "_type": "Value"}, "x": {"dtype": "int64", "_type": "Value"}}
    store = open_store(str(shard(tmp_path / "0.parquet", {"key": [1], "x": [2]}, said)))
    assert features_of(store.schema) == features_of(read_rows(store.ranges).schema) == {"x": said["x"]}


def test_sound_that_is_stored_like_an_image_is_none(tmp_path: Path) -> None:
    column = pa.array([{"bytes": b"x", "path": None}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    store = open_store(str(shard(tmp_path / "0.parquet", {"a": column, "b": column}, {"b": {"_type": "Audio"}})))
    written = pq.read_schema(pa.BufferReader(encode_shard(read_rows(store.ranges), {})))
    assert features_of(written) == {"a": {"_type": "Image"}, "b": {"_type": "Audio"}}
