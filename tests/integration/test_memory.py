"""Memory of whole jobs is bounded by `limits.decoded_mb`, over images and shards that are hard on it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.benchmark.basis.checks import ROOT, own_environment
from pipeline.benchmark.memory.corpora import write_corpus
from pipeline.benchmark.memory.processes import Seen, run_watched
from pipeline.engine.records.limits import Limits
from pipeline.stores.tables.schema import image_array
from tests import corpus


def watched(job: str, *options: str, within_s: float = 200.0) -> Seen:
    command = [sys.executable, "-m", f"jobs.{job}", *options]
    seen = run_watched(command, cwd=str(ROOT), env=own_environment(), within_s=within_s)
    assert seen.code == 0, seen.said
    return seen


def largest(seen: Seen) -> int:
    return max(peak.resident for peak in seen.peaks.values())


def said(seen: Seen) -> str:
    roles = sorted(seen.peaks.items(), key=lambda each: -each[1].resident)
    peaks = ", ".join(f"{role} {peak.resident / 1e6:.0f}" for role, peak in roles)
    return f"{seen.seconds:.0f} s, whole job {seen.whole / 1e6:.0f} MB; peaks in MB: {peaks}"


def picture(folder: Path, name: str, size: tuple[int, int], **options: object) -> None:
    image = Image.fromarray(corpus.picture(len(name), 8, 8)).resize(size, Image.Resampling.BICUBIC)
    image.save(folder / name, **options)


_KEPT_BYTES = 256 << 20
"""Bytes that a process keeps besides those of one image: `memory.note_size`."""


@pytest.mark.parametrize(
    ("size", "decoded_mb", "photographs"),
    [pytest.param("native", 24, 100, marks=pytest.mark.long), ("original", 48, 40)],
)
def test_a_unit_much_larger_than_the_bound_stays_within_it(
    size: str, decoded_mb: int, photographs: int, tmp_path: Path
) -> None:
    """Images of one size, since a model keeps what it needs for each; and photographs, flat pictures and a bomb."""
    source, one = tmp_path / "in", tmp_path / "one"
    source.mkdir()
    for i in range(photographs):
        picture(source, f"{i:02d}.jpg", (1500, 1000))
    decoded = photographs * 1500 * 1000 * 3
    if size == "original":
        for i in range(8):
            Image.new("RGB", (2000, 2000), (i, 9, 9)).save(source / f"flat-{i}.png")
        Image.new("RGB", (4000, 3900)).save(source / "bomb.webp", lossless=True, method=0)
        decoded += 8 * 12_000_000 + 3 * 4000 * 3900
    one.mkdir()
    shutil.copy(source / "00.jpg", one)
    bundle = corpus.write_bundle(str(tmp_path / "bundle"), width=1, depth=1)
    limits = Limits(decoded_mb=decoded_mb)
    assert 2 * decoded > limits.process_bytes + _KEPT_BYTES
    options = ["--bundle", bundle, "--local", "--limits.rows", "128", "--limits.decoded_mb", str(decoded_mb)]
    options += ["--size", size, "--precision", "fp32", "--trunk", "direct"]
    alone = watched("translate", "--input", str(one), "--output", str(tmp_path / "alone"), *options)
    whole = watched("translate", "--input", str(source), "--output", str(tmp_path / "out"), *options)
    assert len(list((tmp_path / "out" / "data").iterdir())) == 1  # one unit, or nothing would be shown
    assert largest(whole) <= largest(alone) + limits.process_bytes + _KEPT_BYTES, said(whole)


@pytest.mark.long
@pytest.mark.parametrize("name", ["photographs", "flat", "bombs", "one_group"])
def test_packing_stays_within_the_default_bound(name: str, tmp_path: Path) -> None:
    made = write_corpus(name, tmp_path, quick=False)  # type: ignore[arg-type]
    seen = watched("pack", "--input", made.url, "--output", str(tmp_path / "out"))
    print(f"\n{name}: {said(seen)}")
    assert largest(seen) <= Limits().process_bytes + 200_000_000


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_three_hundred_photographs_of_12_megapixels_fit_into_8_gb(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    rng = np.random.default_rng(0)
    for i in range(300):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        coarse.resize((4000, 3000), Image.Resampling.BICUBIC).save(source / f"{i:03d}.jpg", quality=92)
    bundle = corpus.write_bundle(str(tmp_path / "bundle"), width=4, depth=1)
    options = ["--input", str(source), "--output", str(tmp_path / "out"), "--bundle", bundle]
    seen = watched("translate", *options, within_s=3000)
    print(f"\n{said(seen)}")
    assert seen.whole < 8e9
    assert len(corpus.rows(str(tmp_path / "out"), ["key"])) == 300


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_ten_pictures_of_48_megapixels_take_the_inner_layers_of_one_and_a_tile(tmp_path: Path) -> None:
    """They go in tiles through a ResNet with nine blocks, whose inner values are held whole (docs/performance.md)."""
    source, pixels, width = tmp_path / "in", 8000 * 6000, 4
    source.mkdir()
    rng = np.random.default_rng(0)
    for i in range(10):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((8000, 6000), Image.Resampling.BICUBIC).save(source / f"{i}.jpg", quality=92)
    bundle = corpus.write_bundle(str(tmp_path / "bundle"), width=width, depth=9)
    options = ["--input", str(source), "--output", str(tmp_path / "out"), "--bundle", bundle]
    seen = watched("translate", *options, within_s=3000)
    print(f"\n{said(seen)}")
    python_and_torch, tile = 400_000_000, 600_000_000
    picture_and_translation, inner = 6 * pixels, pixels // 16 * 4 * width * 4
    stated = Limits().process_bytes + python_and_torch + picture_and_translation + tile + 3 * inner
    assert largest(seen) <= stated, said(seen)
    assert corpus.rows(str(tmp_path / "out"), ["width", "height"]) == [{"width": 8000, "height": 6000}] * 10


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_shard_of_3_gb_with_one_row_group_is_packed_and_translated_within_the_bound(tmp_path: Path) -> None:
    """Its pages have 1,024 images, as pyarrow writes them by default."""
    rng, images_of = np.random.default_rng(0), list[bytes]()
    for _ in range(8):
        picture(tmp_path, "one.jpg", (640, 480), quality=95)
        noise = rng.integers(0, 256, 300_000, np.uint8).tobytes()
        images_of.append((tmp_path / "one.jpg").read_bytes() + noise)  # what is behind a picture is no part of it
    count = 3_400_000_000 // len(images_of[0])
    keys = [f"{i:05d}" for i in range(count)]
    # An array has offsets of 32 bits.
    chunks = [
        image_array([images_of[i % 8] for i in range(first, min(first + 2000, count))], keys[first : first + 2000])
        for first in range(0, count, 2000)
    ]
    shard = tmp_path / "shard.parquet"
    pq.write_table(pa.table({"key": keys, "image": pa.chunked_array(chunks)}), shard, row_group_size=count)
    assert pq.read_metadata(shard).num_row_groups == 1
    del chunks
    bundle = corpus.write_bundle(str(tmp_path / "bundle"), width=4, depth=1)
    more: dict[str, Sequence[str]] = {"pack": [], "translate": ["--bundle", bundle, "--size", "training"]}
    for job, options in more.items():
        output = str(tmp_path / job)
        seen = watched(job, "--input", str(shard), "--output", output, *options, within_s=1500)
        print(f"\n{job} of {os.path.getsize(shard) / 1e9:.2f} GB: read {seen.read / 1e9:.2f} GB, {said(seen)}")
        assert len(corpus.rows(output, ["key"])) == count
        assert largest(seen) <= Limits().process_bytes + 500_000_000
        shutil.rmtree(output)
