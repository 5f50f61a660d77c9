"""FID and KID of `jobs.evaluate` beside pytorch-fid's and clean-fid's, on the same files and weights.

The packages are no dependency: `pip install pytorch-fid clean-fid`, with the torchvision of the torch that is there.
Weights are random, seeded, so that nothing is downloaded; TRANSDOMAIN_INCEPTION names a file of the standard ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from jobs import evaluate
from tests.corpus import picture
from tests.pipeline.scores.test_extractors import write_random_weights

IMAGES = 40
NAME = "pt_inception-2015-12-05-6726825d.pth"
"""File that pytorch-fid looks for among torch hub's checkpoints."""


def packages() -> tuple[Any, Any, Any]:
    """Return pytorch-fid's scores, its networks, and clean-fid's scores; skip where they cannot be imported."""
    try:
        from cleanfid import fid
        from pytorch_fid import fid_score, inception
    except (ImportError, RuntimeError) as error:  # torchvision raises the latter beside another torch than its own
        pytest.skip(f"pip install pytorch-fid clean-fid, and the torchvision of this torch: {error}")
    return fid_score, inception, fid


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Write two folders of images of several sizes, under names that the two do not share."""
    sizes, found = np.random.default_rng(0).integers(90, 360, (2 * IMAGES, 2)), tmp_path_factory.mktemp("images")
    for i, (height, width) in enumerate(sizes):
        folder = found / ("real" if i < IMAGES else "made")
        folder.mkdir(exist_ok=True)
        shift = 0 if i < IMAGES else 30
        pixels = np.clip(picture(i, int(height), int(width)).astype(int) + shift, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03}.png")
    return found / "real", found / "made"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of weights, where pytorch-fid finds it once TORCH_HOME is its third parent."""
    folder = tmp_path_factory.mktemp("torch") / "hub/checkpoints"
    folder.mkdir(parents=True)
    if given := os.environ.get("TRANSDOMAIN_INCEPTION"):
        shutil.copy(given, folder / NAME)
    else:
        write_random_weights(folder / NAME)
    return folder / NAME


def ours(resize: str, folders: tuple[Path, Path], weights: Path, output: Path) -> tuple[dict[str, Any], list[Any]]:
    """Return the scores of jobs.evaluate by metric, and the features of both folders, real ones first."""
    real, made = folders
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    network = ["--extractor_weights", str(weights), "--extractor_sha256", digest, "--resize", resize]
    sets = ["--input", str(made), "--reference", str(real), "--output", str(output), "--kid_subset", str(IMAGES)]
    assert evaluate.main([*sets, *network, "--local"]) == 0
    scores = json.loads((output / "scores.json").read_bytes())["inputs"]["made"]["scores"]["translation"]
    features = []
    for place, column in ((next((output / "reference").iterdir()), "target"), (output, "translation")):
        rows = pq.read_table(place / "data", partitioning=None)[f"{column}__features"].combine_chunks()
        features.append(rows.flatten().to_numpy().reshape(len(rows), -1).astype(np.float64))
    return {name.partition("_")[0]: found for name, found in scores.items()}, features


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_fid_is_that_of_pytorch_fid(
    folders: tuple[Path, Path], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fid_score, _, _ = packages()
    monkeypatch.setenv("TORCH_HOME", str(weights.parents[2]))
    theirs = fid_score.calculate_fid_given_paths([str(each) for each in folders], 1, "cpu", 2048, num_workers=0)
    scores, features = ours("pytorch_fid", folders, weights, tmp_path)
    moments = [part for each in features for part in (each.mean(0), np.cov(each, rowvar=False))]
    assert float(fid_score.calculate_frechet_distance(*moments)) == pytest.approx(float(theirs), rel=1e-9)
    # They take the root of a singular matrix, of fewer images than features, which has an error of its own.
    assert scores["fid"]["value"] == pytest.approx(float(theirs), rel=1e-5, abs=1e-3)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_fid_and_kid_are_those_of_clean_fid(
    folders: tuple[Path, Path], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, inception, fid = packages()
    monkeypatch.setenv("TORCH_HOME", str(weights.parents[2]))
    network = inception.InceptionV3([3], resize_input=False, normalize_input=False).eval()

    @torch.inference_mode()
    def seen(images_NCHW: torch.Tensor) -> torch.Tensor:
        return network((images_NCHW - 128) / 128)[0].flatten(1)

    device = torch.device("cpu")
    theirs = [
        fid.get_folder_features(
            str(each), seen, num_workers=0, batch_size=8, device=device, mode="clean", verbose=False
        )
        for each in folders
    ]
    scores, _ = ours("clean", folders, weights, tmp_path)
    assert scores["fid"]["value"] == pytest.approx(float(fid.fid_from_feats(*theirs)), rel=1e-5, abs=1e-3)
    # One subset of all images, so that both have the same.
    kid = fid.kernel_distance(*theirs, num_subsets=1, max_subset_size=IMAGES)
    assert scores["kid"]["value"] == pytest.approx(float(kid), rel=1e-4)
