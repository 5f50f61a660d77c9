"""Labels that say where things are stay true of the translations, in each size policy and orientation."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import augment, translate, verify
from pipeline import failpoints, images
from pipeline.stores.tables.schema import image_array
from tests import corpus
from tests.jobs.test_one_output import end_at, last_line
from tests.jobs.test_programs import described

WIDTH, HEIGHT, SIDE = 48, 32, 64
BOX = [8, 4, 20, 12]
"""Corners of a white rectangle in the stored pixels."""


def picture(orientation: int, mode: str = "RGB") -> bytes:
    drawn = Image.new(mode, (WIDTH, HEIGHT))
    drawn.paste((255, 255, 255) if mode == "RGB" else 1, tuple(BOX))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    drawn.save(file, "PNG", **({"exif": exif} if mode == "RGB" else {}))
    return file.getvalue()


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Write a picture for each orientation, and two whose geometry does not fit."""
    turns = [*range(1, 9), 1, 1]
    boxes = [[[float(each) for each in BOX]] for _ in turns]
    boxes[8] = [[1.0, float("nan"), 3.0, 4.0]]
    masks = [picture(1, "L") for _ in turns]
    masks[9] = images.encode(corpus.picture(0, 8, 8), images.Encoding(codec="png"))
    names = [f"{i}.png" for i in range(len(turns))]
    table = pa.table({
        "key": names,
        "image": image_array([picture(each) for each in turns], names),
        "boxes": boxes,
        "mask": image_array(masks, names),
        "label": list(range(len(turns))),
    })  # fmt: skip
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in/0.parquet")
    return str(tmp_path / "in")


@pytest.fixture
def inverted(tmp_path: Path) -> str:
    return described(tmp_path, "inverted", value_range=[0, 1], dtype="uint8", training_size=SIDE)


GEOMETRY = ["--geometry", "boxes", "xyxy", "mask", "image"]


def run(source: str, output: Path, bundle: str, *options: str) -> int:
    arguments = ["--input", source, "--output", str(output), "--bundle", bundle, "--local", "--limits.rows", "4"]
    return translate.main([*arguments, "--encoding.codec", "png", "--budget.share", "1", *options])


def check(rows: list[dict], size: str) -> None:
    assert {row["source_key"] for row in rows} == {f"{i}.png" for i in range(8)}
    for row in rows:
        marked = images.decode(row["image"]["bytes"]).pixels[..., 0] < 128  # the model inverts
        at_rows, at_columns = np.nonzero(marked)
        box = [at_columns.min(), at_rows.min(), at_columns.max() + 1, at_rows.max() + 1]
        assert np.abs(np.subtract(row["boxes"][0], box)).max() <= (1 if size == "training" else 0)
        mask = np.asarray(Image.open(io.BytesIO(row["mask"]["bytes"])))
        assert mask.shape == marked.shape
        assert (mask.astype(bool) != marked).mean() < (0.1 if size == "training" else 1e-9)
        assert row["label"] == int(row["source_key"][0])


@pytest.mark.parametrize("size", ["native", "original", "training"])
def test_boxes_and_masks_lie_on_the_translation(
    size: str, source: str, inverted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*GEOMETRY, "--size", size]
    assert run(source, tmp_path / "out", inverted, *options) == 0
    assert verify.main(["--input", str(tmp_path / "out")]) == 0
    check(corpus.rows(str(tmp_path / "out")), size)
    said = "boxes (xyxy), mask (image), taken as places in the pictures before EXIF turns them"
    assert said in (tmp_path / "out/_transdomain/report.html").read_text()
    found = pq.read_table(tmp_path / "out/_quarantine").to_pylist()
    assert {row["key"]: (row["stage"], row["reason"], row["message"]) for row in found} == {
        "8.png": ("decode", "geometry", "boxes: has a number that is missing or not finite"),
        "9.png": ("decode", "geometry", "mask: a mask of 8 × 8 pixels, and its picture has 48 × 32"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "point", end_at("after data"))
        assert run(source, tmp_path / "again", inverted, *options) == 1
    assert run(source, tmp_path / "again", inverted, *options) == 0
    assert corpus.contents(str(tmp_path / "again")) == corpus.contents(str(tmp_path / "out"))
    assert run(source, tmp_path / "parts", inverted, *options, "--limits.decoded_mb", "0.001") == 0
    assert corpus.contents(str(tmp_path / "parts")) == corpus.contents(str(tmp_path / "out"))


def test_augmented_images_have_their_geometry_too(source: str, inverted: str, tmp_path: Path) -> None:
    config = tmp_path / "augment.yaml"
    config.write_text(json.dumps({
        "sources": {"all": source}, "translators": {"inverted": {"bundle": inverted}}, "size": "training",
        "geometry": {"boxes": "xyxy", "mask": "image"}, "budget": {"share": 1}, "encoding": {"codec": "png"},
    }))  # fmt: skip
    arguments = ["--config", str(config), "--output", str(tmp_path / "out"), "--local", "--slot", "2026-11-27"]
    assert augment.main(arguments) == 0
    rows = corpus.rows(str(tmp_path / "out"))
    check([row for row in rows if row["translator"] == "inverted"], "training")
    kept = [row for row in rows if row["translator"] == "original"]
    assert len(kept) == 10
    assert [row["boxes"] for row in kept if row["source_key"] != "8.png"] == 9 * [[BOX]], "as they are in the source"
    config.write_text(config.read_text().replace('"size"', '"labels": ["label"], "size"'))
    assert augment.main([*arguments[:3], str(tmp_path / "other"), *arguments[4:]]) == 2


def test_what_cannot_follow_is_refused_or_told_before_the_work(
    source: str, inverted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for options, why in (
        (["--geometry", "bxes", "xyxy"], "no column bxes for --geometry bxes xyxy; it has key, image, boxes"),
        (["--geometry", "boxes", "image"], "and a mask is an encoded image"),
        (["--geometry", "mask", "xyxy"], "and xyxy are lists of numbers"),
        (["--geometry", "key", "xy"], "column key is string, and xy are lists of numbers"),
        (["--geometry", "image", "image"], "column image is the picture that is translated"),
        (["--geometry", "boxes.x", "xyxy"], "without a field x"),
        (["--form", "folder", *GEOMETRY], "use --form parquet with --geometry"),
    ):
        assert run(source, tmp_path / "out", inverted, *options) == 2
        assert why in last_line(capsys)
        assert not (tmp_path / "out").exists()
    assert run(source, tmp_path / "out", inverted, "--size", "training", "--geometry", "boxes", "xyxy") == 0
    assert "columns mask seem to be of places in the pictures, and do not follow them where EXIF turns" in caplog.text
    assert run(source, tmp_path / "out", inverted, "--size", "training") == 2
    assert "geometry" in last_line(capsys)
