"""Stores of an evaluation as people have them: folders, pairs of files, files without endings, colour profiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import UserError
from pipeline.evaluate import run
from pipeline.evaluate.config import EvaluateConfig
from pipeline.images import Reading
from tests.corpus import picture
from tests.pipeline.images.test_metadata import PROFILE
from tests.pipeline.training import small

FID = "fid_efficientnet_lite0"
DARKER = 20


def save(path: Path, pixels: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def real(i: int) -> np.ndarray:
    return picture(i, 40, 40) // 2 + 60


def evaluate(folder: Path, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the scores of the only input, and the protocols."""
    run.evaluate(EvaluateConfig(output=str(folder / "report"), local=True, **options))
    found = json.loads((folder / "report/scores.json").read_bytes())
    (one,) = found["inputs"].values()
    return one, found["protocols"]


def test_two_folders_of_images_are_compared_as_sets(tmp_path: Path) -> None:
    for i in range(8):
        save(tmp_path / f"fakes/part{i % 2}/{i}.png", real(i) - DARKER)
        save(tmp_path / f"reals/{i}.jpg", real(100 + i), quality=95)
    found, _ = evaluate(tmp_path, input=str(tmp_path / "fakes"), reference=str(tmp_path / "reals"))
    assert found["counts"] == {"inputs": 8, "ok": 8, "quarantined": 0}
    assert found["scores"]["translation"][FID]["value"] > 1
    assert found["not_measured"]["L1"] == "rows have no target"


def test_files_of_one_folder_are_pairs_by_their_names(tmp_path: Path) -> None:
    images = tmp_path / "results/test_latest/images"
    for i in range(6):
        save(images / f"{i}_real_A.png", 255 - real(i))
        save(images / f"{i}_real_B.png", real(i))
        if i < 4:
            save(images / f"{i}_fake_B.png", real(i) - DARKER)
    options = {"input": f"{images}/*_fake_B.png", "targets": f"{images}/*_real_B.png", "extractor": "none"}
    found, protocols = evaluate(tmp_path, **options, pair_by=r"(\d+)_(fake|real)_B")
    assert found["counts"]["ok"] == 4
    assert found["scores"]["translation"]["l1"]["value"] == pytest.approx(DARKER / 255)
    (protocol,) = protocols.values()
    assert protocol["target"].startswith("image_b, PNG, RGB of 8 bits")
    (plan,) = (tmp_path / "report/_transdomain/plan").iterdir()
    assert "image files of B without a partner" in plan.read_bytes().decode(errors="replace")
    with pytest.raises(UserError, match="no two files have the same key"):
        evaluate(tmp_path / "other", **options)


def test_endings_and_gifs_are_read_as_they_are_translated(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / f"fakes/{i}", real(i), format="PNG")
        save(tmp_path / f"fakes/{i}.gif", real(i))
    options = {
        "input": str(tmp_path / "fakes"),
        "reference": str(tmp_path / "fakes"),
        "extractor": "efficientnet_lite0",
    }
    with pytest.raises(UserError, match="passed over are 3 files"):
        evaluate(tmp_path, **options)
    found, protocols = evaluate(tmp_path, **options, extensions="any", reading=Reading(gif="first"))
    assert found["counts"]["ok"] == 6
    assert {each["reading"] for each in protocols.values()} == {"gif first"}


def test_profiles_are_read_as_asked_and_are_part_of_recipe_reference_and_protocol(tmp_path: Path) -> None:
    fakes, reals = (str(tmp_path / name) for name in ("fakes", "reals"))
    for i in range(4):
        save(Path(fakes) / f"{i}.png", real(i))
        save(Path(reals) / f"{i}.png", real(i), icc_profile=PROFILE)
    pairs = {"input": fakes, "targets": reals, "extractor": "none"}
    plain, _ = evaluate(tmp_path / "plain", **pairs)
    assert plain["scores"]["translation"]["l1"]["value"] == 0
    srgb = Reading(icc="to_srgb")
    found, protocols = evaluate(tmp_path / "srgb", **pairs, reading=srgb)
    assert found["scores"]["translation"]["l1"]["value"] > 0.01
    assert [each["reading"] for each in protocols.values()] == ["icc to_srgb"]
    with pytest.raises(UserError, match="reading"):
        evaluate(tmp_path / "plain", **pairs, reading=srgb)
    sets = {"input": fakes, "reference": reals, "reference_cache": str(tmp_path / "cache")}
    two, _ = evaluate(tmp_path / "two", **sets, reading=srgb)
    (file,) = (tmp_path / "cache").glob("*/reference.npz")
    one, _ = evaluate(tmp_path / "one", **sets)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert one["scores"]["translation"][FID]["value"] < two["scores"]["translation"][FID]["value"]
    with pytest.raises(UserError, match=r"its images were read by \{.icc.: .to_srgb.\}, and --reading is the default"):
        evaluate(tmp_path / "three", input=fakes, reference=str(file))


def test_columns_of_any_name_are_scored(tmp_path: Path) -> None:
    url = small.write_store(str(tmp_path / "store"), made=[real(i) for i in range(4)], true=[real(i) for i in range(4)])
    options = {"input": url, "extractor": "none"}
    with pytest.raises(UserError, match="no image column `image`, of the translations; image columns are made, true"):
        evaluate(tmp_path, **options)
    found, _ = evaluate(tmp_path, **options, input_column="made", target_column="true")
    assert found["scores"]["translation"]["l1"]["value"] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pair_by": "(.*)"}, "--targets, which is not given"),
        ({"targets": "reals", "pair_by": "x"}, "has no group"),
        ({"targets": "reals", "target_column": "image_b"}, "leave out the names of columns"),
        ({"targets": "reals", "bundle": "bundle"}, "--targets pairs files"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        EvaluateConfig(input="fakes", output="out", **options)
