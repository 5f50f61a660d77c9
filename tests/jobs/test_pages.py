"""A row of each picture in a file, and what was noted of images: the account says both, and stays true."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import pack, translate, verify
from pipeline import failpoints, images, storage
from pipeline.engine.completion.finish import read_manifest
from pipeline.images.basis import notes
from tests import corpus
from tests.chaos import child
from tests.chaos.ground import assert_same, crash_at
from tests.jobs.test_one_output import last_line
from tests.jobs.test_programs import described
from tests.pipeline.images.test_pages import frames, stacked

ALL = ["--reading.pages", "all", "--reading.gif", "all"]


def png(seed: int) -> bytes:
    return images.encode(corpus.picture(seed), images.Encoding(codec="png"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write a picture, a TIFF of three pages, one whose second page is of floats, a GIF of two frames, a broken one."""
    (folder := tmp_path / "in").mkdir()
    (folder / "one.png").write_bytes(png(0))
    (folder / "scan.tif").write_bytes(stacked(*(corpus.picture(i, 24 + i) for i in (1, 2, 3))))
    (folder / "bad.tif").write_bytes(stacked(corpus.picture(4), np.zeros((4, 4), np.float32)))
    (folder / "moving.gif").write_bytes(frames(2))
    (folder / "text.png").write_bytes(b"no picture")
    return folder


def run(source: Path, output: Path, *options: str) -> int:
    command = ["--input", str(source), "--output", str(output), "--local", "--budget.share", "0.9"]
    return pack.main([*command, "--limits.rows", "2", *options])


EXPECTED = [("moving.gif", 1), ("moving.gif", 2), ("one.png", 1), ("scan.tif", 1), ("scan.tif", 2), ("scan.tif", 3)]


@pytest.mark.parametrize("form", ["parquet", "webdataset", "folder"])
def test_each_picture_of_a_file_is_a_row_and_the_account_holds(
    source: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert run(source, output, "--form", form, *ALL) == 0
    said = capsys.readouterr().out
    assert "6 ok, 2 quarantined of 5 inputs, 3 more rows for further pictures in them" in said
    assert verify.main(["--input", str(output)]) == 0
    assert "5 inputs + 3 further rows = 6 ok + 2 quarantined + 0 skipped, in 3 units: whole" in capsys.readouterr().out
    bad = {row["key"]: row for row in corpus.rows_below(str(output / "_quarantine"))}
    assert bad.keys() == {"bad.tif", "text.png"}
    assert bad["bad.tif"]["message"].startswith("page 2 of 2: TIFF of 32 bits")
    if form == "parquet":
        rows = sorted(corpus.rows(str(output)), key=lambda row: row["key"])
        assert [(row["page_of"], row["page"]) for row in rows] == EXPECTED
        assert [row["key"] for row in rows] == [key if key == "one.png" else f"{key}#{page}" for key, page in EXPECTED]
        for row in rows[3:]:
            pixels = images.decode(row["image"]["bytes"]).pixels
            assert np.array_equal(pixels, corpus.picture(row["page"], 24 + row["page"]))
            assert (row["height"], row["width"]) == pixels.shape[:2]
        assert rows[2]["image"]["bytes"] == png(0)
        assert rows[3]["image"]["path"] == "scan.tif#1.png"
    assert run(source, output, "--form", form, *ALL) == 0
    assert "was complete already" in capsys.readouterr().out


@pytest.mark.parametrize(
    "point", ["after data", *(pytest.param(p, marks=pytest.mark.long) for p in failpoints.POINTS if p != "after image")]
)
def test_a_killed_run_makes_the_same_rows(source: Path, tmp_path: Path, point: str) -> None:
    command = ["--input", str(source), "--local", "--budget.share", "0.9", "--limits.rows", "2", *ALL]
    assert child.run("pack", [*command, "--output", str(tmp_path / "whole")], {}) == 0
    killed = [*command, "--output", str(tmp_path / "killed")]
    assert child.run("pack", killed, crash_at(point, tmp_path / "token")) == -9
    assert child.run("pack", killed, {}) == 0
    assert_same(corpus.contents(str(tmp_path / "killed")), corpus.contents(str(tmp_path / "whole")))


def test_a_translation_takes_pages_like_any_image(source: Path, tmp_path: Path) -> None:
    assert run(source, tmp_path / "out", *ALL) == 0
    bundle = described(tmp_path, "inverted", value_range=[0, 1], dtype="uint8", training_size=24)
    command = ["--input", str(tmp_path / "out"), "--output", str(tmp_path / "made"), "--bundle", bundle, "--local"]
    assert translate.main(command) == 0
    made = corpus.rows(str(tmp_path / "made"))
    assert sorted((row["page_of"], row["page"]) for row in made) == EXPECTED
    assert verify.main(["--input", str(tmp_path / "made")]) == 0


def test_pages_get_the_size_and_the_labels_of_their_file(source: Path, tmp_path: Path) -> None:
    (labels := tmp_path / "labels.csv").write_text("key,kind\nscan.tif,letter\none.png,photo\n")
    shape = ["--resize", "12", "10", "--encoding.codec", "jpeg"]
    assert run(source, tmp_path / "out", *ALL, "--labels", str(labels), *shape) == 0
    rows = {row["key"]: row for row in corpus.rows(str(tmp_path / "out"))}
    assert {row["kind"] for row in rows.values() if row["page_of"] == "scan.tif"} == {"letter"}
    assert {(row["width"], row["height"]) for row in rows.values()} == {(12, 10)}
    assert rows["scan.tif#3"]["image"]["path"].endswith(".jpg")
    assert images.decode(rows["moving.gif#2"]["image"]["bytes"]).format == "JPEG"


def test_what_is_lost_of_pages_is_found(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert run(source, output, *ALL) == 0
    commit = next(path for path in sorted((output / "_transdomain/commits").iterdir()) if "further" in path.read_text())
    commit.write_text(re.sub(r'"further": \d+,\n', "", commit.read_text()))
    assert verify.main(["--input", str(output)]) != 0
    assert commit.name in capsys.readouterr().out


def test_what_was_quarantined_is_run_again_page_by_page(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert run(source, output, *ALL) == 0
    (source / "bad.tif").write_bytes(stacked(corpus.picture(4), corpus.picture(5)))
    assert run(source, output, *ALL, "--from_quarantine", "--on_changed", "set_aside") == 0
    assert "8 ok, 1 quarantined of 5 inputs, 4 more rows" in capsys.readouterr().out
    assert verify.main(["--input", str(output)]) == 0


def test_keys_that_pages_share_with_files_are_refused(source: Path, tmp_path: Path) -> None:
    (source / "scan.tif#2.png").write_bytes(png(9))
    (source / "scan.tif#2").write_bytes(png(9))
    assert run(source, tmp_path / "out", *ALL, "--extensions", "any") == 1


def test_layouts_that_pair_images_have_no_pages(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source, tmp_path / "out", *ALL, "--layout", "pairs") == 2
    assert "layout pairs pairs them" in last_line(capsys)


def test_what_was_noted_is_counted_in_account_report_and_last_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder := tmp_path / "in").mkdir()
    (folder / "plain.png").write_bytes(png(0))
    for i in range(3):
        Image.new("CMYK", (9, 9), (i, 50, 90, 3)).save(folder / f"ink{i}.jpg")
    Image.new("RGBA", (9, 9)).save(folder / "glass.png")
    (folder / "broken.jpg").write_bytes(b"text")
    Image.fromarray(corpus.picture(1)).save(folder / "exif.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert run(folder, tmp_path / "out") == 0
    said = capsys.readouterr().out
    counts = {notes.OF_INK: 3, notes.OVER_WHITE: 1, notes.NO_EXIF: 1}
    assert next(line for line in said.splitlines() if "noted of" in line) == f"  noted of 3 images: {notes.OF_INK}"
    assert all(f"noted of {count} images: {note}" in said for note, count in counts.items())
    manifest = read_manifest(storage.read(str(tmp_path / "out/_transdomain/manifest.parquet")))
    assert manifest is not None
    found: dict[str, int] = {}
    for row in manifest["notes"].to_pylist():
        for note, count in json.loads(row or "{}").items():
            found[note] = found.get(note, 0) + count
    assert found == counts
    report = (tmp_path / "out/_transdomain/report.html").read_text()
    assert "Noted of images while they were decoded" in report
    assert notes.OF_INK in report
    assert verify.main(["--input", str(tmp_path / "out")]) == 0
    bundle = described(tmp_path, "inverted", value_range=[0, 1], dtype="uint8", training_size=24)
    both = ["--input", str(folder), "--bundle", bundle, "--local", "--budget.share", "0.9", "--limits.rows", "4"]
    assert translate.main([*both, "--output", str(tmp_path / "made")]) == 0
    streamed = capsys.readouterr().out
    assert f"noted of 3 images: {notes.OF_INK}" in streamed
    assert translate.main([*both, "--output", str(tmp_path / "streamed"), "--limits.decoded_mb", "0.0003"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "noted of" in line] == [
        line for line in streamed.splitlines() if "noted of" in line
    ]
    assert verify.main(["--input", str(tmp_path / "made")]) == 0


def test_an_output_without_notes_has_none_in_its_records(tmp_path: Path) -> None:
    (folder := tmp_path / "in").mkdir()
    (folder / "plain.png").write_bytes(png(0))
    assert run(folder, tmp_path / "out") == 0
    (commit,) = (tmp_path / "out/_transdomain/commits").iterdir()
    record = json.loads(commit.read_text())
    assert "notes" not in record
    assert record["counts"].keys() == {"inputs", "ok", "quarantined", "skipped"}
    assert "further" not in (tmp_path / "out/_SUCCESS").read_text()
    # The manifest of an earlier version has fewer columns.
    path = tmp_path / "out/_transdomain/manifest.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["notes", "further"]), path)
    assert verify.main(["--input", str(tmp_path / "out")]) == 0


def test_a_picture_column_of_any_name_is_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A column of plain bytes, and one of structs that rides along."""
    (folder := tmp_path / "in").mkdir()
    table = pa.table(
        {
            "photo": pa.array([png(0), b"broken", png(2)]),
            "thumb": pa.array([{"bytes": b"not looked at", "path": None}] * 3),
            "label": ["x", "y", "z"],
        }
    )
    pq.write_table(table, folder / "0.parquet")
    assert run(folder, tmp_path / "out", "--input_column", "photo") == 0
    rows = corpus.rows(str(tmp_path / "out"))
    assert [row["image"]["bytes"] for row in rows] == [png(0), png(2)]
    assert [row["label"] for row in rows] == ["x", "z"]
    assert {row["thumb"]["bytes"] for row in rows} == {b"not looked at"}
    assert rows[0].keys() == {"key", "image", "thumb", "label", "width", "height"}
    assert verify.main(["--input", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    assert run(folder, tmp_path / "none", "--input_column", "label") == 2
    assert run(folder, tmp_path / "clash", "--input_column", "nothing") == 2
    assert run(folder, tmp_path / "out") == 2
    assert "input_column" in capsys.readouterr().err


def test_two_columns_are_a_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder := tmp_path / "in").mkdir()
    wide = images.encode(corpus.picture(5, 10, 40), images.Encoding(codec="png"))
    table = pa.table({"input_image": [png(0), png(1)], "edited_image": [png(2), wide], "prompt": ["night", "rain"]})
    pq.write_table(table, folder / "0.parquet")
    assert run(folder, tmp_path / "out", "--input_column", "input_image", "edited_image") == 0
    (row,) = corpus.rows(str(tmp_path / "out"))
    assert (row["image_a"]["bytes"], row["image_b"]["bytes"], row["prompt"]) == (png(0), png(2), "night")
    (bad,) = corpus.rows_below(str(tmp_path / "out/_quarantine"))
    assert (bad["reason"], "other proportions" in bad["message"]) == ("not a pair", True)
    for options in (["--layout", "pairs"], ["--form", "folder"]):
        assert run(folder, tmp_path / "no", "--input_column", "input_image", "edited_image", *options) == 2
    pq.write_table(table.rename_columns(["a_b", "image_b", "prompt"]), folder / "0.parquet")
    assert run(folder, tmp_path / "cut", "--layout", "pairs", "--input_column", "a_b") == 2
    assert "columns image_b would be overwritten" in last_line(capsys)
