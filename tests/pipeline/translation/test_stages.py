from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline import images
from pipeline.engine.publishing.reading import read_unit
from pipeline.engine.records.account import Batch
from pipeline.engine.records.limits import Limits
from pipeline.engine.records.units import Unit, plan_units
from pipeline.models.arithmetic import Arithmetic
from pipeline.pack import rows
from pipeline.pack.config import Layout
from pipeline.stores import SHARD, open_store
from pipeline.translation import stages
from pipeline.translation.frames import frames_of
from pipeline.translation.stages import Decode, Encode
from tests import corpus
from tests.frames import batch_of


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    store = open_store(corpus.write_folder(str(tmp_path / "in"), 4))
    return plan_units(store.ranges, Limits())[0]


def packed(unit: Unit, layout: Layout) -> Batch:
    return rows.pack_rows(Batch(unit, read_unit(unit)[0]), rows.Taken(layout, images.Encoding()))


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_the_machine_fails_a_unit_and_no_image(
    error: BaseException, unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    for name in ("decode_by", "prove_by"):
        monkeypatch.setattr(images, name, fail)
    layout: Layout = "images"
    for work in (Decode("image", None), lambda unit: packed(unit, layout)):
        with pytest.raises(type(error)):
            work(unit)


def test_bad_images_are_set_aside(unit: Unit) -> None:
    batch = Decode("image", None)(unit)
    assert {row.key: row.reason for row in batch.quarantined} == corpus.BROKEN
    assert len(frames_of(batch, images.RGB)) == 4


@pytest.mark.parametrize(("codec", "most"), [("webp", 16_383), ("jpeg", 65_500)])
def test_a_size_that_no_file_of_the_codec_holds_costs_the_row(codec: images.CodecName, most: int, unit: Unit) -> None:
    frames = [np.zeros((1, width, 3), np.uint8) for width in (most, most + 1)]
    rows = pa.table({
        "image": [None, None], "key": ["fits", "long"], SHARD: ["s", "s"],
        "source_width": [f.shape[1] for f in frames], "source_height": [1, 1],
    })  # fmt: skip
    for size in ("native", "original"):
        encode = Encode(images.Encoding(codec=codec), "image", False, size, "sha")
        made = encode(batch_of(rows, frames))
        assert made.rows["key"].to_pylist() == ["fits"]
        assert [(row.key, row.stage, row.reason) for row in made.quarantined] == [("long", "encode", "too large")]
        assert str(most) in made.quarantined[0].message


def test_a_device_that_fails_fails_the_unit(unit: Unit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arithmetic = Arithmetic(device="cpu", precision="fp32", threads=None, trunk="direct", batch=2)
    translate = stages.Translate(corpus.write_bundle(str(tmp_path / "bundle")), None, arithmetic)
    batch = Decode("image", None)(unit)
    assert len(translate(batch).rows) == 4

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(translate, "translator", replace(translate.translator, network=fail))
    with pytest.raises(RuntimeError, match="unspecified launch failure"):
        translate(batch)


def test_a_key_that_comes_twice_costs_the_second_row_of_a_folder() -> None:
    rows = pa.table({"key": ["a", "b", "a"], SHARD: ["s", "s", "t"]})
    left = stages.with_each_key_once(Batch(Unit("000000-000000", ()), rows))
    assert left.rows["key"].to_pylist() == ["a", "b"]

    assert [(row.key, row.shard, row.reason) for row in left.quarantined] == [("a", "t", "duplicate key")]
