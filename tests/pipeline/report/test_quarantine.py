"""Quarantine in the report of an output: which inputs are shown as pictures, and what is said of the others."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from jobs import pack
from pipeline import storage
from pipeline.engine.records.layout import Output
from pipeline.report import quarantine
from tests import corpus


def test_inputs_that_decode_in_some_way_are_shown_and_the_others_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = corpus.write_folder(f"{tmp_path}/in", 2), Output(f"{tmp_path}/out")
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    animation = io.BytesIO()
    frames[0].save(animation, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    storage.replace(f"{source}/moving.webp", animation.getvalue())
    assert pack.main(["--input", source, "--output", output.url, "--local", "--budget.share", "1"]) == 0
    urls = [entry.url for entry in storage.list_files(output.at("_quarantine"), ".parquet")]
    found = quarantine.look(urls, {})
    assert found.reasons == {"several pictures": 1, "corrupt": 1, "empty": 1, "not an image": 1}
    gallery = quarantine.pictures_of(output, found, "image")
    assert gallery is not None
    [row] = gallery.rows
    [picture] = row.pictures
    assert (row.caption, dict(row.scores)[""]) == ("moving.webp", "several pictures")
    assert picture is not None
    assert picture.shape == (30, 40, 3)
    assert picture[0, 0].tolist() == [255, 0, 0]
    assert "4 inputs listed below, 3 cannot be decoded" in gallery.note
    twice = quarantine.Quarantine([*found.lines] * 2, [*found.units] * 2, found.reasons)  # as two translators have it
    of_twice = quarantine.pictures_of(output, twice, "image")
    assert of_twice is not None
    assert (len(of_twice.rows), of_twice.note) == (1, gallery.note)
    monkeypatch.setattr(quarantine, "MOST_TRIED", 0)
    assert quarantine.pictures_of(output, found, "image") is None
    monkeypatch.undo()
    storage.delete(f"{source}/moving.webp")
    assert quarantine.pictures_of(output, found, "image") is None  # its source is gone, and the report goes on
