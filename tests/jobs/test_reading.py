"""Files that may be read in several ways are read as the user says, and the record says how."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import pack, translate, verify
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
