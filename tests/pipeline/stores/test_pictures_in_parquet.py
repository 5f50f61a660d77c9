"""Columns of pictures as people have them in Parquet: bytes alone, tensors, or only the places of files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import images
from pipeline.errors import UserError
from pipeline.stores import image_columns, open_store, read_rows
from pipeline.stores.tables.options import StoreOptions
from pipeline.stores.tables.pictures import tensor_of
from pipeline.stores.tables.schema import IMAGE_TYPE
from tests import corpus

PIXELS = np.stack([corpus.picture(i, 5, 4) for i in range(3)])
ENCODED = [images.encode(pixels, images.Encoding(codec="png")) for pixels in PIXELS]


def store_of(folder: Path, columns: dict[str, Any], **options: Any) -> str:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / "0.parquet", **options)
    return str(folder)


def tensors(kind: str, pixels: np.ndarray = PIXELS) -> tuple[pa.Field, pa.Array]:
    """Return images as Ray Data writes them: an array of its storage, and a field that names its type."""
    sizes = [pixels[0].size] * len(pixels)
    flat, starts = pa.array(pixels.reshape(-1)), np.cumsum([0, *sizes])
    if kind == "ray.data.arrow_tensor":
        stored, about = pa.ListArray.from_arrays(pa.array(starts, pa.int32()), flat), list(pixels.shape[1:])
    else:
        stored, about = pa.LargeListArray.from_arrays(pa.array(starts, pa.int64()), flat), list(pixels.shape[1:])
    if kind == "ray.data.arrow_variable_shaped_tensor":
        shapes = pa.array([list(each.shape) for each in pixels], pa.list_(pa.int64()))
        stored, about = pa.StructArray.from_arrays([stored, shapes], ["data", "shape"]), pixels.ndim - 1  # type: ignore[assignment]
    said = {"ARROW:extension:name": kind, "ARROW:extension:metadata": json.dumps(about)}
    return pa.field("image", stored.type, metadata=said), stored


KINDS = ["ray.data.arrow_tensor", "ray.data.arrow_tensor_v2", "ray.data.arrow_variable_shaped_tensor"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(ENCODED), pa.array(ENCODED, pa.large_binary()), pa.array(ENCODED, pa.binary_view()),
        pa.array(ENCODED).dictionary_encode(),
        pa.array([{"path": "a", "bytes": data} for data in ENCODED],
                 pa.struct([("path", pa.string()), ("bytes", pa.binary_view())])),
    ],
    ids=lambda column: str(column.type)[:24],
)  # fmt: skip
def test_bytes_in_any_layout_are_pictures_by_what_they_hold(tmp_path: Path, column: pa.Array) -> None:
    other = pa.array([b"no", b"picture", b"here"])
    store = open_store(store_of(tmp_path, {"jpg": column, "notes": other}))
    rows = read_rows(list(store.ranges))
    assert image_columns(rows.schema) == image_columns(store.schema) == ["jpg"]
    assert [row["jpg"]["bytes"] for row in rows.to_pylist()] == ENCODED
    assert rows["notes"].to_pylist() == other.to_pylist()


def test_bytes_beside_a_usual_column_of_pictures_are_only_pictures_if_named(tmp_path: Path) -> None:
    usual = pa.array([{"bytes": data, "path": None} for data in ENCODED], IMAGE_TYPE)
    folder = store_of(tmp_path, {"image": usual, "thumb": pa.array([ENCODED[0], None, ENCODED[1]])})
    assert image_columns(open_store(folder).schema) == ["image"]
    store = open_store(folder, options=StoreOptions(pictures=("thumb",)))
    rows = read_rows(list(store.ranges))
    assert image_columns(rows.schema) == ["image", "thumb"]
    assert rows["thumb"].to_pylist() == [
        {"bytes": ENCODED[0], "path": None}, None, {"bytes": ENCODED[1], "path": None},
    ]  # fmt: skip


def test_a_named_column_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = store_of(tmp_path, {"x": [1.5], "url": ["https://host/a"], "image": pa.array([ENCODED[0]])})
    with pytest.raises(UserError, match=r"its column x is double, and pictures are bytes, .*; name another"):
        open_store(folder, options=StoreOptions(pictures=("x",)))
    with pytest.raises(UserError, match="its column url holds places of images, such as https://host/a; a path is"):
        open_store(folder, options=StoreOptions(pictures=("url",)))


@pytest.mark.parametrize("places", [["a/b.JPG", None, "c.png"], ["s3://bucket/a", "s3://bucket/b", "s3://bucket/c"]])
def test_a_column_of_places_is_said_to_be_that(tmp_path: Path, places: list[str | None]) -> None:
    folder = store_of(tmp_path, {"image": places, "label": ["x", "y", "z"]})
    with pytest.raises(UserError, match=r"column image holds places of images, such as .*; put the bytes into the col"):
        open_store(folder)


def test_cells_with_a_path_alone_are_refused_unless_another_shard_has_bytes(tmp_path: Path) -> None:
    alone = pa.array([{"bytes": None, "path": "a.png"}, {"bytes": None, "path": None}, None], IMAGE_TYPE)
    folder = store_of(tmp_path / "in", {"image": alone})
    with pytest.raises(UserError, match="its column image holds paths of images and no bytes; a path is never opened"):
        open_store(folder)
    untyped = store_of(tmp_path / "untyped", {"image": [{"bytes": None, "path": "a.png"}]})
    with pytest.raises(UserError, match="its column image holds paths of images and no bytes; a path is never opened"):
        open_store(untyped)
    whole = pa.array([{"bytes": ENCODED[0], "path": "a"}], IMAGE_TYPE)
    pq.write_table(pa.table({"image": whole}), f"{folder}/1.parquet")
    assert open_store(folder).rows == 4


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_that_ray_wrote_become_png_without_loss(tmp_path: Path, kind: str) -> None:
    field, stored = tensors(kind)
    path = tmp_path / "0.parquet"
    pq.write_table(pa.Table.from_arrays([stored], schema=pa.schema([field])), path)
    store = open_store(str(tmp_path))
    rows = read_rows(list(store.ranges))
    assert rows.schema.field("image").type == IMAGE_TYPE
    assert not rows.schema.field("image").metadata
    for row, pixels in zip(rows.to_pylist(), PIXELS, strict=True):
        assert np.array_equal(images.decode(row["image"]["bytes"]).pixels, pixels)


def test_arrows_own_tensors_and_grey_ones(tmp_path: Path) -> None:
    grey = PIXELS[:, :, :, 0]
    for name, pixels in {"rgb": PIXELS, "grey": grey, "one": grey[..., None]}.items():
        folder = store_of(tmp_path / name, {"image": pa.FixedShapeTensorArray.from_numpy_ndarray(pixels)})
        (first, *_) = read_rows(list(open_store(folder).ranges))["image"].to_pylist()
        expected = np.broadcast_to(pixels[0].reshape(5, 4, -1), (5, 4, 3))
        assert np.array_equal(images.decode(first["bytes"]).pixels, expected)


def test_tensors_that_are_no_pictures_are_named(tmp_path: Path) -> None:
    first = np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2)).astype(np.float32)
    folder = store_of(tmp_path, {"image": pa.FixedShapeTensorArray.from_numpy_ndarray(first)})
    with pytest.raises(UserError, match=r"column image holds tensors of float \[3, 5, 4\], and pictures are uint8"):
        open_store(folder, options=StoreOptions(pictures=("image",)))
    assert image_columns(open_store(folder).schema) == []


def test_what_only_looks_like_a_tensor_is_none() -> None:
    broken = {"ARROW:extension:name": "ray.data.arrow_tensor", "ARROW:extension:metadata": "{"}
    assert tensor_of(pa.field("x", pa.list_(pa.uint8()), metadata=broken)) is None
    assert tensor_of(pa.field("x", pa.int8(), metadata=broken | {"ARROW:extension:metadata": "[1]"})) is None


def test_shards_with_bytes_and_with_structs_are_one_store(tmp_path: Path) -> None:
    folder = store_of(tmp_path, {"image": pa.array(ENCODED[:1])})
    usual = pa.array([{"bytes": ENCODED[1], "path": "p"}], IMAGE_TYPE)
    pq.write_table(pa.table({"image": usual}), f"{folder}/1.parquet")
    rows = read_rows(list(open_store(folder).ranges))
    assert [row["image"]["bytes"] for row in rows.to_pylist()] == ENCODED[:2]
    Path(f"{folder}/0.parquet").rename(f"{folder}/2.parquet")
    rows = read_rows(list(open_store(folder).ranges))
    assert [row["image"]["bytes"] for row in rows.to_pylist()] == ENCODED[1::-1]
