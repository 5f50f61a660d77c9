"""Real facades go through every kind of model, in every form and size policy, killed and run again to the same bytes.

Needs the facades of CMP (A|B pictures of 256 × 256 each), which are no part of this repository.
"""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import cast, get_args

import pytest

from gan_models.export import export_pt2
from jobs import pack, translate, verify
from pipeline import failpoints
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
