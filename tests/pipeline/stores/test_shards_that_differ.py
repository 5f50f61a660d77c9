"""Shards that differ in harmless ways are one store; what does not go together is named before any work."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import images
from pipeline.engine.publishing.reading import read_unit
from pipeline.engine.records.limits import Limits
from pipeline.engine.records.units import PlannedSource, decode_units, encode_segment, plan_units, with_head
from pipeline.errors import UserError
from pipeline.stores import SHARD, Store, image_columns, open_store, read_rows, read_unchanged_rows
from pipeline.stores.tables.options import StoreOptions
from pipeline.stores.tables.row_schema import RowSchema
from pipeline.stores.tables.schema import IMAGE_TYPE
from tests import corpus

PICTURES = [images.encode(corpus.picture(i, 8, 8), images.Encoding(codec="png")) for i in range(3)]
NULLS = StoreOptions(missing_columns="null")

WORDS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
NUMBERS = [pa.int8(), pa.int16(), pa.int64(), pa.uint8(), pa.uint32()]
LISTS = [pa.list_(pa.int8()), pa.large_list(pa.int64()), pa.list_(pa.field("element", pa.uint16(), nullable=False))]
STRUCTS = [
    pa.struct([("a", pa.int8()), ("b", pa.string())]),
    pa.struct([pa.field("b", pa.large_string()), pa.field("a", pa.int32())]),
]
BYTES = [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int8(), pa.binary())]
FLOATS = [pa.float32(), pa.float64()]
MAPS = [pa.map_(pa.string(), pa.int8()), pa.map_(pa.large_string(), pa.int64())]
VARIANTS: dict[str, tuple[list[pa.DataType], list[Any]]] = {
    "word": (WORDS, ["", "a", "ß"]),
    "number": (NUMBERS, [0, 1, 127]),
    "list": (LISTS, [[], [1], [2, 3]]),
    "struct": (STRUCTS, [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
    "bytes": (BYTES, [b"", b"a", b"\0\xff"]),
    "float": (FLOATS, [0.5, -1.25]),
    "map": (MAPS, [[], [("k", 1)]]),
    "nested": ([pa.list_(kind) for kind in STRUCTS], [[{"a": 1, "b": "x"}], []]),
    "large": ([pa.list_(pa.list_(pa.float32())), pa.large_list(pa.large_list(pa.float64()))], [[[0.5]], [[], [1.5]]]),
}
PICTURE_TYPES = [
    IMAGE_TYPE,
    pa.struct([("path", pa.large_string()), ("bytes", pa.large_binary())]),
    pa.struct([("bytes", pa.binary_view()), ("path", pa.null())]),
]


def write(folder: Path, *tables: pa.Table) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"{number}.parquet")
    return str(folder)


def values(rows: pa.Table) -> list[dict[str, Any]]:
    """Return rows as plain data, structs without regard to the order of their fields, maps as lists."""
    return [{name: value for name, value in row.items() if name != SHARD} for row in rows.to_pylist()]


def planned_rows(store: Store, rows_of_unit: int) -> list[pa.Table]:
    """Return what a worker reads, unit by unit, that knows the plan alone."""
    units = plan_units(store.ranges, Limits(rows=rows_of_unit))
    source = PlannedSource(url=store.url, row_schema=store.ranges.row_schema)
    file = pq.ParquetFile(io.BytesIO(encode_segment([units], number=0, job="j", recipe={}, sources={"": source})))
    return [read_unit(unit)[0] for unit in decode_units(with_head(file.read(), file.metadata))]


@st.composite
def stores(draw: st.DrawFn) -> list[tuple[pa.Table, list[dict[str, Any]]]]:
    """Return tables of one store that differ in harmless ways, each with its rows as plain data."""
    names = draw(st.lists(st.sampled_from(sorted(VARIANTS)), max_size=4, unique=True))
    keys = draw(st.sampled_from([WORDS, NUMBERS[:1], None]))
    shards, count = [], 0
    for _ in range(draw(st.integers(1, 4))):
        rows, arrays = draw(st.integers(0, 3)), dict[str, tuple[pa.Field, pa.Array]]()
        plain: list[dict[str, Any]] = [{} for _ in range(rows)]

        def add(name: str, kinds: list[pa.DataType], choices: list[Any]) -> None:
            found = [draw(st.sampled_from(choices)) for _ in plain]  # noqa: B023
            kind = pa.null() if all(value is None for value in found) and draw(st.booleans()) else None
            kind = draw(st.sampled_from(kinds)) if kind is None else kind
            nullable = None in found or draw(st.booleans()) or pa.types.is_null(kind)
            arrays[name] = pa.field(name, kind, nullable), pa.array(found, kind)  # noqa: B023
            for row, value in zip(plain, found, strict=True):  # noqa: B023
                row[name] = value

        for name in names:
            add(name, VARIANTS[name][0], [*VARIANTS[name][1], None])
        add("image", PICTURE_TYPES, [{"bytes": data, "path": None} for data in PICTURES])
        if keys:
            own = [count + i for i in range(rows)] if keys is not WORDS else [f"k{count + i}" for i in range(rows)]
            kind = draw(st.sampled_from(keys))
            arrays["key"] = pa.field("key", kind), pa.array(own, kind)
            for row, key in zip(plain, own, strict=True):
                row["key"] = str(key)
        else:
            for i, row in enumerate(plain):
                row["key"] = f"{len(shards)}.parquet#{i:09d}"
        order = draw(st.permutations(sorted(arrays)))
        fields = [arrays[name] for name in order]
        table = pa.Table.from_arrays([array for _, array in fields], schema=pa.schema([field for field, _ in fields]))
        shards.append((table, plain))
        count += rows
    return shards


@settings(max_examples=40, deadline=None)
@given(stores(), st.integers(1, 3))
def test_each_row_comes_out_once_with_its_values_in_one_schema(
    shards: list[tuple[pa.Table, list[dict[str, Any]]]], rows_of_unit: int
) -> None:
    expected = sorted((row for _, rows in shards for row in rows), key=lambda row: row["key"])
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(write(Path(folder), *(table for table, _ in shards)))
        whole, units = read_rows(list(store.ranges)), planned_rows(store, rows_of_unit)
        read = [row for unit in units for row in values(unit)]
    if not expected:
        assert not units
        return
    assert sorted(values(whole), key=lambda row: row["key"]) == expected
    assert sorted(read, key=lambda row: row["key"]) == expected
    assert {tuple((f.name, f.type, f.nullable) for f in unit.schema) for unit in units} == {
        tuple((f.name, f.type, f.nullable) for f in whole.schema)
    }
    assert image_columns(whole.schema) == ["image"]


def test_alike_shards_come_as_they_are_and_a_plan_says_nothing(tmp_path: Path) -> None:
    store = open_store(write(tmp_path, *[pa.table({"key": ["a"], "x": pa.array(["p"]).dictionary_encode()})] * 2))
    assert store.ranges.row_schema is None
    assert PlannedSource(url="u").record() == {"url": "u", "passed_over": []}
    assert read_rows(list(store.ranges)).schema.field("x").type == pa.dictionary(pa.int32(), pa.string())


def test_what_does_not_go_together_is_named_by_column_types_and_shards(tmp_path: Path) -> None:
    tables = [
        pa.table({"key": ["a"], "x": pa.array([None], pa.null()), "y": [1]}),
        pa.table({"key": ["b"], "x": [1], "y": [1]}),
        pa.table({"key": ["c"], "x": ["p"], "y": [0.5]}),
    ]
    with pytest.raises(UserError) as error:
        open_store(write(tmp_path, *tables)).ranges  # noqa: B018
    assert str(error.value) == (
        f"{tmp_path}/2.parquet: columns differ from {tmp_path}/0.parquet: "
        f"x: string instead of int64, as in {tmp_path}/1.parquet; y: double instead of int64; "
        "write each column in one type"
    )


def test_columns_that_some_shards_lack_take_an_option(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tables = [pa.table({"key": ["a"], "x": [1]}), pa.table({"key": ["b"]}), pa.table({"key": ["c"], "y": ["p"]})]
    folder = write(tmp_path, *tables)
    with pytest.raises(UserError, match=r"1\.parquet: .* x: int64 missing; --missing_columns null takes .* nulls in x"):
        open_store(folder).ranges  # noqa: B018
    store = open_store(folder, options=NULLS)
    assert store.schema.names == ["key", "x", "y"]
    assert [(row["x"], row["y"]) for row in values(read_rows(list(store.ranges)))] == [
        (1, None), (None, None), (None, "p"),
    ]  # fmt: skip
    assert "null stands for the column x in 2 of 3 shards, such as" in caplog.text
    assert "null stands for the column y in 2 of 3 shards, such as" in caplog.text


def test_a_column_of_pictures_cannot_be_missing(tmp_path: Path) -> None:
    image = pa.array([{"bytes": PICTURES[0], "path": None}], IMAGE_TYPE)
    folder = write(tmp_path, pa.table({"key": ["a"], "image": image}), pa.table({"key": ["b"]}))
    with pytest.raises(UserError, match="image holds pictures, which all shards need"):
        open_store(folder, options=NULLS).ranges  # noqa: B018


def test_a_missing_key_is_a_name_by_shard_and_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tables = [pa.table({"key": ["a", None], "x": [0, 1]}), pa.table({"x": [2]})]
    store = open_store(write(tmp_path, *tables), options=NULLS)
    assert read_rows(list(store.ranges))["key"].to_pylist() == ["a", "0.parquet#000000001", "1.parquet#000000000"]
    assert "1 rows have no key, such as in" in caplog.text


def test_shards_without_rows_say_nothing_of_columns(tmp_path: Path) -> None:
    empty = pa.table({"key": pa.array([], pa.float64()), "other": pa.array([], pa.null())})
    store = open_store(write(tmp_path, empty, pa.table({"key": ["a"], "x": [1]}), empty))
    assert store.schema.names == ["key", "x"]
    assert values(read_rows(list(store.ranges))) == [{"key": "a", "x": 1}]
    assert store.ranges.row_schema is None


def test_keys_by_shard(tmp_path: Path) -> None:
    tables = [pa.table({"key": ["a", None]}), pa.table({"key": pa.array([7, 8])})]
    store = open_store(write(tmp_path, *tables), options=StoreOptions(keys="by_shard"))
    assert read_rows(list(store.ranges))["key"].to_pylist() == [
        "0.parquet#a", "0.parquet#000000001", "1.parquet#7", "1.parquet#8",
    ]  # fmt: skip
    wanted = read_rows(list(store.ranges), [], wants=lambda key: key.endswith("7"))
    assert wanted["key"].to_pylist() == ["1.parquet#7"]


def test_a_folder_has_no_use_for_options_of_shards(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PICTURES[0])
    with pytest.raises(UserError, match=r"--keys is for Parquet shards, and the input is image files; leave it out"):
        open_store(str(tmp_path), options=StoreOptions(keys="by_shard"))


def test_a_row_schema_survives_a_plan(tmp_path: Path) -> None:
    held = RowSchema(pa.schema([pa.field("x", pa.list_(pa.int8()), nullable=False), ("u", pa.uuid())]), "by_shard")
    found = RowSchema.of_record(held.record())
    assert found == held
    assert found is not None
    assert found.schema.field("x").nullable is False
    assert RowSchema.of_record(None) is None


def test_columns_in_common_may_differ_in_harmless_ways(tmp_path: Path) -> None:
    tables = [
        pa.table({"key": ["a"], "x": pa.array([1], pa.int8()), "y": ["p"], "z": [1]}),
        pa.table({"y": pa.array(["q"], pa.large_string()), "key": ["b"], "x": [2], "z": ["no number"]}),
    ]
    store = open_store(write(tmp_path, *tables), alike=False)
    assert store.schema == pa.schema([("key", pa.string()), ("x", pa.int64()), ("y", pa.string())])
    assert values(read_rows(list(store.ranges), ["x", "y"])) == [
        {"key": "a", "x": 1, "y": "p"}, {"key": "b", "x": 2, "y": "q"},
    ]  # fmt: skip


@pytest.mark.parametrize("page_bytes", [20_000, 100_000_000])
def test_rows_of_a_large_row_group_come_like_those_of_small_ones(tmp_path: Path, page_bytes: int) -> None:
    """Rows are cut out by pages where these are small, else spooled."""
    noise = np.random.default_rng(1)
    data = [PICTURES[0] + noise.bytes(20_000) for _ in range(400)]
    large = pa.table({"jpg": pa.array(data, pa.large_binary()), "label": pa.array(range(400), pa.int16())})
    small = pa.table({"label": pa.array([2**40]), "jpg": pa.array([PICTURES[1]])})
    pq.write_table(large, tmp_path / "0.parquet", data_page_size=page_bytes, use_dictionary=False)
    pq.write_table(small, tmp_path / "1.parquet")
    store = open_store(str(tmp_path))
    rows = [row for unit in planned_rows(store, 64) for row in unit.to_pylist()]
    assert [row["jpg"]["bytes"] for row in rows] == [*data, PICTURES[1]]
    assert [row["label"] for row in rows] == [*range(400), 2**40]
    assert [row["key"] for row in rows][398:] == [
        "0.parquet#000000398", "0.parquet#000000399", "1.parquet#000000000",
    ]  # fmt: skip


def test_rows_that_are_gone_leave_the_columns_of_the_others(tmp_path: Path) -> None:
    tables = [pa.table({"x": pa.array([1], pa.int8()), "y": ["p"]}), pa.table({"y": ["q"], "x": [2]})]
    store = open_store(write(tmp_path, *tables))
    ranges = list(store.ranges)
    whole, _ = read_unchanged_rows(ranges, store.schema)
    (tmp_path / "0.parquet").unlink()
    left, lost = read_unchanged_rows(ranges[:1], store.schema)
    assert left.schema == whole.schema
    assert (len(left), [key for key, *_ in lost]) == (0, ["0.parquet#000000000"])


def test_polars_views_are_read(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    for shard, column in enumerate((["a", None], ["b", "c"])):
        rows = {"key": [f"{shard}-{i}" for i in range(2)], "image": PICTURES[:2], "text": column}
        polars.DataFrame(rows).write_parquet(tmp_path / f"{shard}.parquet")
    rows = read_rows(list(open_store(str(tmp_path)).ranges)).to_pylist()
    assert [row["image"]["bytes"] for row in rows] == PICTURES[:2] * 2
    assert [row["text"] for row in rows] == ["a", None, "b", "c"]


def test_few_footers_are_read_to_open_a_store_of_many_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.stores.forms import survey

    read, footer = list[str](), survey.read_footer
    monkeypatch.setattr(survey, "read_footer", lambda entry: read.append(entry.name) or footer(entry))
    folder = write(tmp_path, *[pa.table({"key": [str(i)], "x": pa.array([i], pa.int32())}) for i in range(40)])
    store = open_store(folder)
    assert read == ["0.parquet"]
    store.ranges_of(np.array([7]))
    assert len(read) == 2
