"""Pictures of other types than RGB of 8 bits go from file to training to translation to file."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from gan_models import DiscriminatorConfig, GeneratorConfig, load_bundle
from jobs import translate, verify
from pipeline import images
from pipeline.training import record
from pipeline.training.config.train import TrainConfig
from pipeline.training.data import loader
from pipeline.training.run import conclude, prepare
from tests import corpus
from tests.jobs.test_one_output import last_line
from tests.pipeline.training import small

GREY_16 = images.PixelType(1, 16)
FIVE = images.PixelType(5)
SIDE = 48


def drawn(i: int, pixel_type: images.PixelType, side: int = SIDE) -> np.ndarray:
    """Return a smooth picture of any type, another for each number."""
    planes = [corpus.picture(10 * i + k, side, side)[..., k % 3] for k in range(pixel_type.channels)]
    pixels = np.stack(planes, -1).astype(pixel_type.dtype)
    return pixels * 257 + 7 * i if pixel_type.bits == 16 else pixels


def encoded(pixels: np.ndarray) -> bytes:
    """Return a TIFF of any type, by a library that the product does not write with."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels.squeeze(), photometric="minisblack", planarconfig="contig")
    return buffer.getvalue()


def trained(config: TrainConfig) -> str:
    """Return the bundle of a short run that is ended once and goes on."""
    for steps in (2, 4):
        plan = prepare(replace(config, steps=steps))
        record.begin(plan.config)
        assert not small.train_here(plan.config).failure
    return conclude(plan).bundle


def run(source: str, output: Path, bundle: str, *options: str) -> int:
    arguments = ["--input", source, "--output", str(output), "--bundle", bundle, "--local", "--limits.rows", "3"]
    return translate.main([*arguments, *options])


def config_of(store: str, output: Path, takes: images.PixelType, gives: images.PixelType, **more: Any) -> TrainConfig:
    generator = GeneratorConfig(
        width=4, depth=5, dropout=True, in_channels=takes.channels, out_channels=gives.channels, in_bits=takes.bits,
        out_bits=gives.bits,
    )  # fmt: skip
    sees = DiscriminatorConfig(in_channels=takes.channels + gives.channels, width=4, layers=2, norm="batch")
    return small.pix2pix(store, str(output), generator=generator, discriminator=sees, **more)


@pytest.mark.parametrize(
    ("takes", "gives", "codec"),
    [
        pytest.param(GREY_16, GREY_16, "png", id="grey of 16 bits"),
        pytest.param(FIVE, images.RGB, "jpeg", id="five channels to RGB"),
        pytest.param(images.PixelType(4, 16), FIVE, "tiff", id="four of 16 bits to five", marks=pytest.mark.long),
    ],
)
def test_from_file_to_training_to_translation_to_file(
    takes: images.PixelType, gives: images.PixelType, codec: str, tmp_path: Path
) -> None:
    sides = {"image_a": takes, "image_b": gives}
    store = small.write_store(
        str(tmp_path / "store"),
        **{name: [encoded(drawn(i, each)) for i in range(6)] for name, each in sides.items()},  # type: ignore[arg-type]
    )
    bundle = trained(config_of(store, tmp_path / "run", takes, gives, load_size=SIDE))
    described = load_bundle(bundle)
    architecture = described.generator_config
    assert (architecture.in_channels, architecture.in_bits) == (takes.channels, takes.bits)
    source = tmp_path / "in"
    source.mkdir()
    for i in range(5):
        (source / f"{i}.tiff").write_bytes(encoded(drawn(i, takes, SIDE + i)))
    Image.fromarray(corpus.picture(0)).save(source / "rgb.png")
    options = ["--encoding.codec", codec, "--budget.share", "0.5", "--batch", "1"]
    for output in ("out", "parts"):
        parts = ["--limits.decoded_mb", "0.001"] if output == "parts" else []
        assert run(str(source), tmp_path / output, bundle, *options, *parts) == 0
    assert corpus.contents(str(tmp_path / "parts")) == corpus.contents(str(tmp_path / "out"))
    assert verify.main(["--input", str(tmp_path / "out")]) == 0
    rows = {row["key"]: row for row in corpus.rows(str(tmp_path / "out"))}
    assert rows.keys() == {f"{i}.tiff" for i in range(5)}
    for i in range(5):
        made = images.decode(rows[f"{i}.tiff"]["image"]["bytes"], wanted=None).pixels
        assert images.PixelType.of(made) == gives
        assert made.shape[:2] == (SIDE + i, SIDE + i)
        if codec != "jpeg":
            assert len(np.unique(made)) > (300 if gives.bits == 16 else 20)
    (bad,) = corpus.rows_below(str(tmp_path / "out/_quarantine"))
    assert (bad["key"], bad["reason"]) == ("rgb.png", "unsupported type")


def test_sixteen_bits_come_to_the_network_and_back_as_they_are(tmp_path: Path) -> None:
    """Neither bf16 nor 8 bits lie on the way, and values are resized with all their bits."""
    a, b = (encoded(drawn(i, GREY_16)) for i in range(2))
    store = small.write_store(str(tmp_path / "store"), image_a=[a], image_b=[b])
    config = config_of(store, tmp_path / "run", GREY_16, GREY_16, load_size=SIDE)
    found = loader.load_images(loader.find_sources(config), SIDE, threads=1)
    assert np.array_equal(found.a[0], drawn(0, GREY_16))
    values = loader.to_input_on_one_thread(
        loader.cut(found.a, loader.Augmentation(*(np.array([0]) for _ in range(2)), np.array([True])), SIDE),
        loader.torch.contiguous_format,
    )
    expected = drawn(0, GREY_16)[:, ::-1, 0] / 65535 * 2 - 1
    assert np.abs(values[0, 0].numpy() - expected).max() < 1e-6
    larger = images.resize(drawn(0, GREY_16), 2 * SIDE, 2 * SIDE)
    by_eight = images.resize((drawn(0, GREY_16) // 257).astype(np.uint8), 2 * SIDE, 2 * SIDE).astype(float)
    assert larger.dtype == np.uint16
    assert np.abs(larger / 257 - by_eight).max() < 1.5
    assert len(np.unique(larger)) > 1000
    bundle = trained(config)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/0.tiff").write_bytes(encoded(drawn(0, GREY_16)))
    assert run(str(tmp_path / "in"), tmp_path / "out", bundle, "--encoding.codec", "png", "--precision", "bf16") == 2


def test_what_does_not_fit_is_refused_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grey = corpus.write_bundle(str(tmp_path / "grey"), in_channels=1, out_channels=1, in_bits=16, out_bits=16)
    five = corpus.write_bundle(str(tmp_path / "five"), in_channels=5, out_channels=1)
    source = corpus.write_folder(str(tmp_path / "in"), 3)
    deep = tmp_path / "deep"
    deep.mkdir()
    (deep / "0.tiff").write_bytes(encoded(drawn(0, GREY_16)))
    for options, why in (
        ([source, grey], "gives grey of 16 bits, which jpeg cannot hold; use --encoding.codec png or tiff"),
        (
            [source, grey, "--encoding.codec", "png"],
            "first images are RGB of 8 bits, and the model takes grey of 16",
        ),
        ([str(deep), grey, "--encoding.codec", "png", "--precision", "bf16"], "and bf16 has fewer; use fp32"),
        ([source, five, "--encoding.codec", "png"], "and the model takes 5 channels of 8 bits"),
    ):
        assert run(options[0], tmp_path / "out", options[1], *options[2:]) == 2
        assert why in last_line(capsys)
        assert not (tmp_path / "out").exists()
    both = ["--input", source, "--output", str(tmp_path / "out"), "--local", "--encoding.codec", "tiff"]
    assert translate.main([*both, "--bundle", grey, five]) == 2
    assert "the translators take 5 channels of 8 bits and grey of 16 bits" in last_line(capsys)
    assert translate.main([*both, "--chain", five, grey]) == 2
    assert f"{five} gives grey of 8 bits, and {grey} takes grey of 16 bits" in last_line(capsys)


def test_training_images_of_another_type_are_named_with_the_options(tmp_path: Path) -> None:
    store = small.write_pairs(str(tmp_path / "store"), 3)
    config = config_of(store, tmp_path / "run", FIVE, images.RGB)
    with pytest.raises(loader.TrainingDataError, match=r"image_a of '000' .*say channels and bits .*in_channels"):
        loader.load_images(loader.find_sources(config), small.SIZE, threads=1)


def test_bundles_and_runs_of_eight_bits_say_nothing_of_bits(tmp_path: Path) -> None:
    bundle = corpus.write_bundle(str(tmp_path / "bundle"))
    assert "bits" not in (tmp_path / "bundle/config.json").read_text()
    assert load_bundle(bundle).generator_config.in_bits == 8
    assert "in_bits" not in small.pix2pix("in", "out").recipe()["generator"]
