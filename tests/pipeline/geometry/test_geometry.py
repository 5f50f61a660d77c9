"""Boxes, points and masks lie on their picture after every turn and resize; pictures themselves are the judges."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pipeline.geometry.columns import followed
from pipeline.geometry.kinds import Geometry, Kind, likely
from pipeline.geometry.masks import moved_mask
from pipeline.geometry.transforms import Move, moved

WHOLE = st.integers(1, 12)


def turned_by_pillow(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Return what viewers show of stored pixels, uint8 [H, W], with this EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(stored).save(file, "PNG", exif=exif)
    return np.asarray(ImageOps.exif_transpose(Image.open(file)))


def extent(picture: np.ndarray) -> list[float]:
    """Return the box of the marked pixels, x1 y1 x2 y2."""
    rows, columns = np.nonzero(picture)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@st.composite
def marked(draw: st.DrawFn) -> tuple[np.ndarray, list[float]]:
    """Return a picture with a marked rectangle, and its box."""
    width, height = draw(WHOLE), draw(WHOLE)
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    w, h = draw(st.integers(1, width - x)), draw(st.integers(1, height - y))
    stored = np.zeros((height, width), np.uint8)
    stored[y : y + h, x : x + w] = 255
    return stored, [x, y, x + w, y + h]


FORMS: dict[str, Callable[[Any], list[float]]] = {
    "xyxy": list,
    "xywh": lambda b: [b[0], b[1], b[2] - b[0], b[3] - b[1]],
    "cxcywh": lambda b: [(b[0] + b[2]) / 2, (b[1] + b[3]) / 2, b[2] - b[0], b[3] - b[1]],
    "xy": lambda b: [(b[0] + b[2]) / 2, (b[1] + b[3]) / 2],
    "xyv": lambda b: [(b[0] + b[2]) / 2, (b[1] + b[3]) / 2, 2],
}


@given(marked(), st.integers(1, 8), WHOLE, WHOLE, st.sampled_from(list(FORMS)))
def test_boxes_and_points_lie_where_their_pixels_are(
    drawn: tuple[np.ndarray, list[float]], orientation: int, times_x: int, times_y: int, kind: str
) -> None:
    (stored, box), form = drawn, FORMS[kind]
    shown = turned_by_pillow(stored, orientation)
    height, width = shown.shape
    resized = np.kron(shown, np.ones((times_y, times_x), np.uint8))
    move = Move(orientation, (width, height), (width * times_x, height * times_y))
    found = moved(np.array([form(box)], np.float64), kind, move)
    np.testing.assert_allclose(found, [form(extent(resized))], atol=1e-9)
    oriented = Move(orientation, move.before, move.after, "oriented")
    found = moved(np.array([form(extent(shown))], np.float64), kind, oriented)
    np.testing.assert_allclose(found, [form(extent(resized))], atol=1e-9)
    if kind != "xyv":  # as shares of the picture: the same, divided by its size before and after
        numbers = len(form(box))
        before, after = (np.tile(each.shape[::-1], 2)[:numbers] for each in (stored, resized))
        shares = moved(np.array([form(box)]) / before, f"{kind}_normalised", move)
        np.testing.assert_allclose(shares, np.array([form(extent(resized))]) / after, atol=1e-9)


@given(
    st.integers(1, 8), WHOLE, WHOLE, st.integers(1, 30), st.integers(1, 30), st.sampled_from(["L", "P", "1", "I;16"])
)
def test_masks_keep_their_values_on_their_picture(
    orientation: int, height: int, width: int, to_width: int, to_height: int, mode: str
) -> None:
    values = np.random.default_rng(height * 31 + width).integers(0, 2 if mode == "1" else 9, (height, width))
    times = {"1": 255, "I;16": 5000}.get(mode, 1)
    mask = Image.fromarray((values * times).astype(np.uint16 if mode == "I;16" else np.uint8))
    palette = [i * 20 for i in range(9) for _ in range(3)]
    if mode == "P":
        mask.putpalette(palette)
    mask = mask.convert("1") if mode == "1" else mask
    file = io.BytesIO()
    mask.save(file, "PNG")
    shown = turned_by_pillow(values.astype(np.uint8), orientation)
    move = Move(orientation, (shown.shape[1], shown.shape[0]), (to_width, to_height))
    made = Image.open(io.BytesIO(moved_mask(file.getvalue(), move)))
    assert made.size == (to_width, to_height)
    (rows, clear_rows), (columns, clear_columns) = nearest(shown.shape[0], to_height), nearest(shown.shape[1], to_width)
    clear = clear_rows[:, None] & clear_columns
    expected = shown[rows][:, columns].astype(int) * (1 if mode == "1" else times)
    assert (np.asarray(made).astype(int) == expected)[clear].all()
    if mode == "P":
        assert made.mode == "P"
        assert (made.getpalette() or [])[:27] == palette


def nearest(size: int, to: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel in which the centre of each of the new ones lies, and whether it lies between two."""
    twice = (2 * np.arange(to) + 1) * size
    return twice // (2 * to), twice % (2 * to) != 0


def test_a_mask_that_did_not_move_keeps_its_bytes() -> None:
    file = io.BytesIO()
    Image.new("L", (4, 3), 7).save(file, "TIFF")
    assert moved_mask(file.getvalue(), Move(1, (4, 3), (4, 3))) == file.getvalue()
    with pytest.raises(ValueError, match="a mask of 4 × 3 pixels, and its picture has 3 × 4"):
        moved_mask(file.getvalue(), Move(1, (3, 4), (3, 4)))
    assert Image.open(io.BytesIO(moved_mask(file.getvalue(), Move(6, (3, 4), (3, 4))))).size == (3, 4)
    with pytest.raises(ValueError, match="no image"):
        moved_mask(b"text", Move(1, (3, 4), (3, 4)))


DOUBLE = Move(1, (10, 10), (20, 20))
Followed = tuple[pa.ChunkedArray, dict[int, tuple[str, str]]]


def follow(column: pa.Array, kind: Kind, path: str = "c", move: Move = DOUBLE) -> Followed:
    rows, faults = followed(pa.table({"c": column}), Geometry({path: kind}), [move] * len(column))
    return rows["c"], faults


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.list_(pa.float32())),
        pa.list_(pa.list_(pa.float64(), 4)),
        pa.large_list(pa.list_(pa.int32())),
        pa.list_(pa.list_(pa.list_(pa.int16()))),
    ],
)
def test_lists_of_any_depth_and_type_follow_and_keep_their_type(kind: pa.DataType) -> None:
    deep = str(kind).count("list") > 2
    box = [[1, 2, 3, 4], [0, 0, 10, 10]]
    cells = [[box] if deep else box, [], None]
    found, faults = follow(pa.array(cells, kind), "xyxy")
    twice = [[2, 4, 6, 8], [0, 0, 20, 20]]
    assert (found.type, found.to_pylist(), faults) == (kind, [[twice] if deep else twice, [], None], {})


def test_flat_lists_and_fields_of_structs_follow() -> None:
    found, _ = follow(pa.array([[1.0, 2, 0, 3, 4, 2, 0, 0, 0]]), "xyv")
    assert found.to_pylist() == [[2, 4, 0, 6, 8, 2, 0, 0, 0]]
    objects = [{"bbox": [[1.0, 1, 2, 2]], "label": [3]}, {"bbox": None, "label": []}, None]
    found, _ = follow(pa.array(objects), "xywh", "c.bbox")
    assert found.to_pylist() == [{"bbox": [[2.0, 2, 4, 4]], "label": [3]}, {"bbox": None, "label": []}, None]
    found, _ = follow(pa.array([[{"bbox": [1.0, 1, 2, 2], "label": 3}]]), "xyxy", "c.bbox")
    assert found.to_pylist() == [[{"bbox": [2.0, 2, 4, 4], "label": 3}]]


def test_whole_numbers_are_rounded() -> None:
    found, _ = follow(pa.array([[1, 2, 3, 4]]), "xyxy", move=Move(1, (10, 10), (15, 15)))
    assert found.to_pylist() == [[2, 3, 4, 6]]


@pytest.mark.parametrize("move", [DOUBLE, Move(1, (10, 10), (10, 10))])
@pytest.mark.parametrize(
    ("cell", "kind", "why"),
    [
        ([[1.0, 2.0, float("nan"), 4.0]], "xyxy", "c: has a number that is missing or not finite"),
        ([[1.0, None, 3.0, 4.0]], "xyxy", "c: has a number that is missing or not finite"),
        ([[1.0, 2.0, 3.0]], "xyxy", "c: a list of 3 numbers, and xyxy has 4 each"),
        ([[1.0, 2.0, 3.0]], "xy", "c: a list of 3 numbers, and xy has 2 each"),
    ],
)
def test_what_does_not_fit_is_named(move: Move, cell: list[list[float]], kind: Kind, why: str) -> None:
    good = [[1.0, 2.0, 3.0, 4.0]]
    found, faults = follow(pa.array([good, cell], pa.list_(pa.list_(pa.float64()))), kind, move=move)
    assert faults == {1: ("geometry", why)}
    assert found.type == pa.list_(pa.list_(pa.float64()))


def test_names_that_say_geometry() -> None:
    names = ["bbox", "boxes", "gt_boxes", "keypoints", "instance_mask", "label", "maskot", "inbox_id", "segmentation"]
    assert likely(names) == ["bbox", "boxes", "gt_boxes", "keypoints", "instance_mask", "segmentation"]
