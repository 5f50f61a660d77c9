"""New codec: one entry of one table suffices to translate a folder into its files, and to verify them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from pipeline import images, storage
from pipeline.engine import launch
from pipeline.images.encoding import CODECS, Codec, Encoding
from pipeline.translate.config import TranslateConfig
from pipeline.translate.job import translate_job
from pipeline.verify.job import verify
from tests import corpus


def bitmap(pixels, encoding):  # type: ignore[no-untyped-def]
    Image.fromarray(pixels).save(buffer := io.BytesIO(), "BMP")
    return buffer.getvalue()


def test_it_writes_the_files_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODECS, "bitmap", Codec(extension="bmp", most_a_side=1000, write=bitmap))
    check_a_folder(tmp_path, "bitmap", ".bmp")


@pytest.mark.parametrize(
    ("codec", "ending"),
    [
        ("tiff", ".tif"),
        *(pytest.param(*each, marks=pytest.mark.long) for each in (("avif", ".avif"), ("webp_lossy", ".webp"))),
    ],
)
def test_every_codec_does(tmp_path: Path, codec: str, ending: str) -> None:
    check_a_folder(tmp_path, codec, ending)


def check_a_folder(tmp_path: Path, codec: str, ending: str) -> None:
    source, bundle = corpus.write_folder(str(tmp_path / "in"), 4), corpus.write_bundle(str(tmp_path / "bundle"))
    options = {"form": "folder", "local": True, "encoding": Encoding(codec=codec)}  # type: ignore[arg-type]
    config = TranslateConfig(input=source, output=str(tmp_path / "out"), bundle=(bundle,), **options)  # type: ignore[arg-type]
    launch.run_engine(lambda: [translate_job(config)], config)
    made = [e for e in storage.list_files(config.output) if e.name.endswith(ending)]
    assert len(made) == 4
    assert all(images.decode(storage.read(e.url)).pixels.shape == (24, 24, 3) for e in made)
    assert verify(config.output, source=True).faults == []
