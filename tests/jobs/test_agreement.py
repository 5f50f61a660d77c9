"""Labels stay true in content: a model of the user judges inputs beside translations, in the pass that makes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from jobs import verify
from pipeline import failpoints, images
from pipeline.scores.agreement import cosine, mean_iou
from tests import corpus
from tests.jobs.test_one_output import end_at, last_line
from tests.jobs.test_programs import described, pixels, run, save

SIDE = 24


class Segmentation(nn.Module):
    """Score of two classes for each pixel, by its red value, at half of the size."""

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        red = nn.functional.avg_pool2d(x_NCHW[:, :1], 2)
        return torch.cat([red, -red], 1)


@pytest.fixture
def source(tmp_path: Path) -> str:
    return corpus.write_folder(str(tmp_path / "in"), 7, width=27)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    return corpus.write_bundle(str(tmp_path_factory.mktemp("models") / "bundle"), size=SIDE)


def judged(model: str, *more: str) -> list[str]:
    return ["--score", "agreement", "--agreement_model", model, "--precision", "fp32", "--trunk", "direct", *more]


def classes(image: np.ndarray) -> torch.Tensor:
    """Return what `Segmentation` gives for an image, whose size is padded to a multiple of 8 and then cut off."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % 8), (0, -width % 8), (0, 0)), mode="reflect")
    x_NCHW = torch.from_numpy(padded / 127.5 - 1).float().permute(2, 0, 1)[None]
    return Segmentation()(x_NCHW)[0, :, : -(-height // 2), : -(-width // 2)]


def test_a_segmentation_agrees_or_not_and_the_condition_keeps_what_does(
    source: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = (torch.export.Dim("h", min=2, max=999) * 8, torch.export.Dim("w", min=2, max=999) * 8)
    program = torch.export.export(
        Segmentation(), (torch.zeros(1, 3, 32, 40),), dynamic_shapes=({2: free[0], 3: free[1]},)
    )
    torch.export.save(program, tmp_path / "segmentation.pt2")
    model = described(tmp_path, str(tmp_path / "segmentation.pt2"), value_range=[-1, 1], size_multiple=8, least_size=16)
    assert run(source, tmp_path / "out", bundle, *judged(model)) == 0
    assert verify.main(["--input", str(tmp_path / "out")]) == 0
    found = pixels(tmp_path / "out")
    agreements = {row["key"]: row["agreement"] for row in corpus.rows(str(tmp_path / "out"))}
    assert len(agreements) == 7
    for key, agreement in agreements.items():
        decoded = images.decode((Path(source) / key).read_bytes()).pixels
        assert agreement == pytest.approx(mean_iou(classes(decoded), classes(found[key].astype(np.uint8))), abs=1e-9)
    middle = float(np.median(list(agreements.values())))
    kept = judged(model, "--keep_if", f"agreement > {middle}")
    assert run(source, tmp_path / "kept", bundle, *kept) == 0
    assert {row["key"] for row in corpus.rows(str(tmp_path / "kept"))} == {
        key for key, agreement in agreements.items() if agreement > middle
    }
    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "point", end_at("after data"))
        assert run(source, tmp_path / "again", bundle, *kept) == 1
    assert run(source, tmp_path / "again", bundle, *kept) == 0
    assert corpus.contents(str(tmp_path / "again")) == corpus.contents(str(tmp_path / "kept"))


def test_an_embedding_judges_a_program_which_has_no_networks_of_its_own(source: str, tmp_path: Path) -> None:
    inverted = described(tmp_path, "inverted", value_range=[0, 1], dtype="uint8")
    judge = described(tmp_path, "brightness", value_range=[0, 1])
    assert run(source, tmp_path / "out", inverted, *judged(judge)) == 0
    rows = corpus.rows(str(tmp_path / "out"))
    assert len(rows) == 7
    for row in rows:
        decoded = torch.from_numpy(images.decode((Path(source) / row["key"]).read_bytes()).pixels / 255.0)
        expected = cosine(decoded.mean((0, 1)), (1 - decoded).mean((0, 1)))
        assert row["agreement"] == pytest.approx(expected, abs=1e-5)


def test_a_model_of_one_size_judges_images_of_any(source: str, bundle: str, tmp_path: Path) -> None:
    fixed = save(Segmentation(), tmp_path / "fixed.pt2", torch.zeros(1, 3, 16, 16))
    assert run(source, tmp_path / "out", bundle, *judged(described(tmp_path, fixed, value_range=[-1, 1]))) == 0
    assert all(0 <= row["agreement"] <= 1 for row in corpus.rows(str(tmp_path / "out")))


def test_what_cannot_judge_is_refused_before_the_work(
    source: str, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batches = save(Segmentation(), tmp_path / "batches.pt2", torch.zeros(4, 3, 16, 16))
    for options, why in (
        (["--score", "agreement"], "--score agreement and --agreement_model need each other"),
        (["--agreement_model", "x.pt2"], "--score agreement and --agreement_model need each other"),
        (judged(bundle), "is no program: give a .pt2 or .onnx file"),
        (judged(str(tmp_path / "none.pt2")), "no such file"),
        (judged(described(tmp_path, batches, value_range=[-1, 1])), "takes 4 images of 3 channels"),
        (judged("tests.programs:brightness"), "write a YAML file"),
    ):
        assert run(source, tmp_path / "out", bundle, *options) == 2
        assert why in last_line(capsys)
        assert not (tmp_path / "out").exists()
    boxes = described(tmp_path, "three_numbers", value_range=[0, 1])
    assert run(source, tmp_path / "boxes", bundle, *judged(boxes)) != 0
    assert "boxes of 3 numbers" in last_line(capsys)
