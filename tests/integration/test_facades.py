"""Real facades go through every kind of model, in every form and size policy, killed and run again to the same bytes.

Needs the facades of CMP (A|B pictures of 256 × 256 each), which are no part of this repository.
"""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import cast, get_args

import numpy as np
import pytest

from gan_models.export import export_pt2
from jobs import pack, translate, verify
from pipeline import failpoints, images
from pipeline.models.bundles import open_bundle
from pipeline.stores.forms import FormName
from pipeline.translation.options import SizePolicy
from tests import corpus
from tests.jobs.test_one_output import end_at
from tests.jobs.test_programs import described
from tests.jobs.test_scores import write_cyclegan

FACADES = Path(os.environ.get("TRANSDOMAIN_FACADES", Path(__file__).parents[3] / "shared/data/facades"))
pytestmark = pytest.mark.skipif(
    not FACADES.is_dir(), reason=f"no facades in {FACADES} (set TRANSDOMAIN_FACADES to their folder)"
)
COUNT = 5
SIDE = 128
"""Side of the models' training, another than that of the pictures."""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the photographs of a few facades, as a store in each form that can be read."""
    folder = tmp_path_factory.mktemp("facades")
    pictures = sorted((FACADES / "val").iterdir())[:COUNT]
    (folder / "pairs").mkdir()
    for picture in pictures:
        shutil.copy(picture, folder / "pairs" / picture.name)
    arguments = ["--input", str(folder / "pairs"), "--output", str(folder / "parquet"), "--layout", "pairs"]
    assert pack.main([*arguments, "--local"]) == 0
    (folder / "folder").mkdir()
    for row in corpus.rows(str(folder / "parquet")):
        (folder / "folder" / f"{Path(row['key']).stem}.png").write_bytes(row["image_a"]["bytes"])
    return {"parquet": str(folder / "parquet"), "folder": str(folder / "folder")}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    found = {
        "cyclegan": write_cyclegan(str(folder / "cyclegan")),
        "pix2pix": corpus.write_bundle(str(folder / "pix2pix"), kind="unet", norm="batch", depth=5, size=SIDE),
        "callable": described(folder, "inverted", value_range=[0, 1], dtype="uint8", training_size=SIDE),
        "pt2": str(folder / "model.pt2"),
    }
    bundle = open_bundle(found["cyclegan"], direction="b_to_a")
    generator, config = bundle.generator("b_to_a"), bundle.generator_configs["b_to_a"]
    Path(found["pt2"]).write_bytes(export_pt2(generator, config, notes={"training_size": str(SIDE)}))
    return found


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", ["cyclegan", "pix2pix", "pt2", "callable"])
def test_facades_in_every_form_and_size_killed_and_run_again(
    model: str, stores: dict[str, str], models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, sizes = cast(tuple[str, ...], get_args(FormName)), cast(tuple[str, ...], get_args(SizePolicy))
    for read, form, size in itertools.product(stores, written, sizes):
        place = tmp_path / f"{read}-{form}-{size}"
        arguments = ["--input", stores[read], "--bundle", models[model], "--form", form, "--size", size, "--local"]
        arguments += ["--limits.rows", "2", "--precision", "fp32", "--trunk", "direct", "--encoding.codec", "png"]
        assert translate.main([*arguments, "--output", f"{place}-whole"]) == 0
        expected = corpus.contents(f"{place}-whole")
        assert sum(unit["ok"] for unit in expected["manifest"]) == COUNT
        for point in ("after data", "after quarantine", "after commit", "before success"):
            output = f"{place}-{point.split()[1]}"
            with monkeypatch.context() as patch:
                patch.setattr(failpoints, "point", end_at(point))
                assert translate.main([*arguments, "--output", output]) == 1
            assert translate.main([*arguments, "--output", output]) == 0
            assert corpus.contents(output) == expected
        assert verify.main(["--input", f"{place}-whole"]) == 0


@pytest.mark.parametrize("count", [COUNT, pytest.param(100, marks=pytest.mark.long)])
def test_pairs_keep_pixels_and_columns_through_every_form(count: int, tmp_path: Path) -> None:
    """A|B pictures become Parquet, tars, two parallel folders, and Parquet again, with a column of labels."""
    pictures = sorted((FACADES / "val").iterdir())[:count]
    (tmp_path / "in").mkdir()
    for picture in pictures:
        shutil.copy(picture, tmp_path / "in" / picture.name)
    said = "".join(f"{picture.name},number {i},{i}\n" for i, picture in enumerate(pictures))
    (tmp_path / "labels.csv").write_text(f"key,name,number\n{said}")

    def packed(source: str, output: str, *options: str) -> None:
        arguments = ["--input", str(tmp_path / source), "--output", str(tmp_path / output), "--local"]
        assert pack.main([*arguments, "--limits.rows", "16", *options]) == 0

    packed("in", "parquet", "--layout", "pairs", "--labels", str(tmp_path / "labels.csv"))
    packed("parquet", "tars", "--form", "webdataset")
    packed("tars", "folder", "--form", "folder")
    labels = ["--labels", str(tmp_path / "folder/a/data/metadata.parquet")]
    packed("folder/a", "again", "--layout", "trees", "--input_b", str(tmp_path / "folder/b"), *labels)
    for output in ("parquet", "tars", "folder/a", "folder/b", "again"):
        assert verify.main(["--input", str(tmp_path / output)]) == 0
    first, last = (
        sorted(corpus.rows(str(tmp_path / name)), key=lambda row: row["key"]) for name in ("parquet", "again")
    )
    assert [row["key"] for row in first] == sorted(picture.name for picture in pictures)
    for before, after, picture in zip(first, last, sorted(pictures), strict=True):
        columns = before.keys() - {"image_a", "image_b"}
        assert columns == {"key", "name", "number", "width", "height"}
        assert {name: after[name] for name in columns} == {name: before[name] for name in columns}
        halves = [images.decode(after[name]["bytes"]).pixels for name in ("image_a", "image_b")]
        assert np.array_equal(np.concatenate(halves, 1), images.decode(picture.read_bytes()).pixels)
        assert all(after[name]["bytes"] == before[name]["bytes"] for name in ("image_a", "image_b"))
