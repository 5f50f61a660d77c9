"""Files that may be read in several ways are read as the user says, and the record says how."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import inspect, pack, translate, verify
from pipeline import images
from pipeline.engine.records.layout import Output, load_segments
from tests import corpus
from tests.jobs.test_one_output import last_line
from tests.jobs.test_programs import described
from tests.pipeline.images.test_metadata import PROFILE, expected_srgb


def saved(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    Image.fromarray(pixels).save(buffer := io.BytesIO(), kind, **options)
    return buffer.getvalue()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write a plain picture, one with a profile, and a TIFF of two pages."""
    (folder := tmp_path / "in").mkdir()
    (folder / "plain.png").write_bytes(saved(corpus.picture(0), "PNG"))
    (folder / "profile.png").write_bytes(saved(corpus.picture(1), "PNG", icc_profile=PROFILE))
    other = Image.fromarray(corpus.picture(3))
    (folder / "pages.tiff").write_bytes(saved(corpus.picture(2), "TIFF", save_all=True, append_images=[other]))
    return folder


def run(source: Path, output: Path, bundle: str, *options: str) -> int:
    arguments = ["--input", str(source), "--output", str(output), "--bundle", bundle, "--local"]
    return translate.main([*arguments, "--encoding.codec", "png", "--budget.share", "0.9", *options])


def test_a_store_may_hold_files_of_several_pages(source: Path, tmp_path: Path) -> None:
    arguments = ["--input", str(source), "--local", "--budget.share", "0.9"]
    for output, options, keys in (
        ("plain", [], {"plain.png", "profile.png"}),
        ("pages", ["--reading.pages", "first"], {"plain.png", "profile.png", "pages.tiff"}),
    ):
        assert pack.main([*arguments, "--output", str(tmp_path / output), *options]) == 0
        rows = {row["key"]: row["image"]["bytes"] for row in corpus.rows(str(tmp_path / output))}
        assert rows == {key: (source / key).read_bytes() for key in keys}


def test_profiles_and_pages_are_read_as_asked_for(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = described(tmp_path, "inverted", value_range=[0, 1], dtype="uint8", training_size=24)

    def made(output: str, *options: str) -> dict[str, np.ndarray]:
        assert run(source, tmp_path / output, bundle, *options) == 0
        assert verify.main(["--input", str(tmp_path / output)]) == 0
        rows = corpus.rows(str(tmp_path / output))
        return {row["key"]: 255 - images.decode(row["image"]["bytes"]).pixels.astype(int) for row in rows}

    plain = made("plain")
    assert plain.keys() == {"plain.png", "profile.png"}
    assert np.array_equal(plain["profile.png"], corpus.picture(1))
    (bad,) = corpus.rows_below(str(tmp_path / "plain/_quarantine"))
    assert (bad["key"], bad["reason"]) == ("pages.tiff", "several pictures")
    read = made("read", "--reading.pages", "first", "--reading.icc", "to_srgb")
    assert np.array_equal(read["pages.tiff"], corpus.picture(2))
    assert np.array_equal(read["plain.png"], corpus.picture(0))
    assert np.array_equal(read["profile.png"], expected_srgb(corpus.picture(1)))
    assert not np.array_equal(read["profile.png"], plain["profile.png"])
    recipes = [load_segments(Output(str(tmp_path / name)))[0].recipe for name in ("plain", "read")]
    assert recipes[0].keys().isdisjoint({"icc", "pages"})
    assert (recipes[1]["icc"], recipes[1]["pages"]) == ("to_srgb", "first")
    assert run(source, tmp_path / "plain", bundle, "--reading.icc", "to_srgb") == 2
    assert "icc: absent there, to_srgb now" in last_line(capsys)


def moving(seed: int) -> bytes:
    """Return a GIF of two frames, of few colours, which its palette holds exactly."""
    frames = [Image.fromarray(corpus.picture(seed + i)).quantize(64) for i in range(2)]
    frames[0].save(buffer := io.BytesIO(), "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def test_gifs_are_read_on_request_in_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder := tmp_path / "in").mkdir()
    (folder / "plain.png").write_bytes(saved(corpus.picture(0), "PNG"))
    (folder / "moving.gif").write_bytes(data := moving(1))
    asked = ["--local", "--budget.share", "0.9", "--reading.gif", "first"]
    for form in ("parquet", "webdataset", "folder"):
        output = tmp_path / form
        assert pack.main(["--input", str(folder), "--output", str(output), "--form", form, *asked]) == 0
        assert verify.main(["--input", str(output)]) == 0
    assert (tmp_path / "folder/data/moving.gif").read_bytes() == data
    bundle = described(tmp_path, "inverted", value_range=[0, 1], dtype="uint8", training_size=24)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    for source in ("in", "parquet", "webdataset", "folder"):
        output = tmp_path / f"of_{source}"
        assert run(tmp_path / source, output, bundle, "--reading.gif", "first") == 0
        made = {row["key"]: row["image"]["bytes"] for row in corpus.rows(str(output))}
        key = "moving" if source == "webdataset" and "moving" in made else "moving.gif"
        assert np.array_equal(255 - images.decode(made[key]).pixels, expected)
    assert load_segments(Output(str(tmp_path / "of_in")))[0].recipe["gif"] == "first"
    assert run(tmp_path / "in", tmp_path / "of_in", bundle) == 2
    assert "gif: first there, absent now" in last_line(capsys)


def test_files_of_any_name_go_through_a_job_and_the_record_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (folder := tmp_path / "in").mkdir()
    for name, data in {"one": corpus.picture(0), "two.dat": corpus.picture(1)}.items():
        (folder / name).write_bytes(saved(data, "PNG"))
    (folder / "notes").write_bytes(b"text")
    (folder / "cut").write_bytes(saved(corpus.picture(2), "PNG")[:60])
    command = ["--input", str(folder), "--output", str(tmp_path / "out"), "--local", "--budget.share", "0.9"]
    assert pack.main(command) == 2
    assert "no image" in last_line(capsys)
    assert pack.main([*command, "--extensions", "any"]) == 0
    assert {row["key"] for row in corpus.rows(str(tmp_path / "out"))} == {"one", "two.dat"}
    (bad,) = corpus.rows_below(str(tmp_path / "out/_quarantine"))
    assert (bad["key"], bad["reason"], bad["message"][:3]) == ("cut", "corrupt", "PNG")
    assert "1 files without an ending, whose first bytes are of no image, such as notes: no input" in caplog.text
    assert load_segments(Output(str(tmp_path / "out")))[0].recipe["extensions"] == "any"
    assert verify.main(["--input", str(tmp_path / "out")]) == 0
    assert pack.main([*command, "--extensions", "any"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert pack.main(command) == 2


def test_inspect_looks_at_what_other_jobs_would_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "moving.gif").write_bytes(moving(1))
    (tmp_path / "scan").write_bytes(saved(corpus.picture(0), "PNG"))
    assert inspect.main(["--input", str(tmp_path), "--extensions", "any", "--reading.gif", "first"]) == 0
    said = capsys.readouterr().out
    assert "GIF" in said
    assert "not decodable" not in said or "0 of them" in said


def test_a_row_of_each_page_is_made_by_pack_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = described(tmp_path, "inverted", value_range=[0, 1], dtype="uint8", training_size=24)
    assert run(tmp_path, tmp_path / "out", bundle, "--reading.pages", "all") == 2
    assert "jobs.pack does that: pack the files first" in last_line(capsys)
