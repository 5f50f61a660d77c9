"""Extractors: weights by checksum, Inception against torch-fidelity's and the preparation of clean-fid, LPIPS."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.scores.extractors.extractor import describe_extractor, load_extractor
from pipeline.scores.extractors.inception import Inception
from pipeline.scores.lpips import Lpips, alexnet
from pipeline.scores.structure import gradient_distance
from tests.corpus import picture
from tests.jobs.test_programs import described


def write_random_weights(path: Path) -> str:
    """Write random weights of Inception, seeded; return their sha256."""
    noise, network = torch.Generator().manual_seed(0), Inception()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=noise)
        elif isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=noise)  # type: ignore[union-attr, operator]
    torch.save(network.state_dict(), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    return str(path), write_random_weights(path)


EXPECTED = {
    "clean": [0.820187, 0.007663, 0.001811, 0.82884, 0.257317],
    "pytorch_fid": [0.821852, 0.007688, 0.001834, 0.829582, 0.257967],
}
"""Features 0, 500, 1000, 2000 and their mean, by torch-fidelity 0.4.0's network with these weights, on images that
clean-fid 0.1.35's resizer made, and pytorch-fid 0.3.0's interpolation."""


@pytest.mark.parametrize("resize", list(EXPECTED))
def test_inception_is_that_of_fid_with_the_preparation_of_both_packages(resize: str, weights: tuple[str, str]) -> None:
    extractor = describe_extractor("inception", *weights, resize)
    assert extractor.sha256 == weights[1]
    features = load_extractor(extractor)(picture(0, 120, 90))
    found = [*features[[0, 500, 1000, 2000]].tolist(), float(features.mean())]
    assert found == pytest.approx(EXPECTED[resize], rel=1e-3, abs=1e-5)


def test_other_weights_than_the_standard_ones_have_to_be_named(weights: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"sha256 is {weights[1]}, and that of the standard weights .*6726825d0af5"):
        describe_extractor("inception", weights[0])
    with pytest.raises(UserError, match="and not 0000"):
        describe_extractor("inception", weights[0], "0" * 64)
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
    sha256 = hashlib.sha256((tmp_path / "other.pth").read_bytes()).hexdigest()
    with pytest.raises(UserError, match="no weights of Inception v3"):
        describe_extractor("inception", str(tmp_path / "other.pth"), sha256)
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UserError, match=r"no weights that torch can read .* damaged, cut short"):
        describe_extractor("inception", str(tmp_path / "text.pth"), hashlib.sha256(b"no weights").hexdigest())


class Gives(nn.Module):
    """Network that gives what a function makes of an image."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.function(x_NCHW)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: x * 1.0, r"gives \[1, 3, 32, 32\] for an image, and an extractor gives \[1, D\]; pool"),
        (lambda x: x.sum(), r"gives \[\] for an image"),
        (lambda x: x.mean((2, 3)) / 0 * 0, "no finite numbers"),
        (lambda x: x.mean((2, 3)).half(), "not fp32"),
        (lambda x: (x.mean((2, 3)), x.mean((2, 3))), "has 2 outputs"),
        (lambda x: x.mean((2, 3), keepdim=True), ""),
    ],
)
def test_a_program_that_gives_no_features_is_refused_before_any_work(
    function: Callable[[Tensor], Tensor], words: str, tmp_path: Path
) -> None:
    torch.export.save(torch.export.export(Gives(function), (torch.zeros(1, 3, 32, 32),)), tmp_path / "network.pt2")
    program = described(tmp_path, "network.pt2", value_range=[-1, 1])
    if words:
        with pytest.raises(UserError, match=words):
            describe_extractor(program)
        return
    assert load_extractor(describe_extractor(program))(picture(0)).shape == (3,)


def test_lpips_is_that_of_torchmetrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchmetrics.functional.image import lpips

    torch.manual_seed(0)
    trunk = alexnet()
    for layer in trunk:
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()
    path = tmp_path / "alexnet.pth"
    torch.save({f"features.{name}": value for name, value in trunk.state_dict().items()}, path)
    monkeypatch.setattr(lpips, "_get_tv_model_features", lambda net, pretrained: nn.Sequential(*trunk, nn.MaxPool2d(3)))
    expected = lpips._LPIPS(net="alex")
    a, b = picture(0, 70, 90), picture(1, 70, 90)
    tensors = (torch.from_numpy(each).permute(2, 0, 1)[None].float() / 127.5 - 1 for each in (a, b))
    distance = Lpips(str(path), hashlib.sha256(path.read_bytes()).hexdigest())
    assert distance(a, b) == pytest.approx(float(expected(*tensors)), rel=1e-5)
    assert distance(a, a) == 0
    assert np.isnan(distance(a[:30], b[:30]))


def test_moved_edges_are_far_and_other_colours_are_not() -> None:
    box = np.full((64, 64, 3), 60, np.uint8)  # no black and no white, which would cut off what resizing overshoots
    box[20:40, 20:40] = 180
    assert gradient_distance(box, box // 2 + 30) < 0.02
    assert gradient_distance(box, np.roll(box, 12, 1)) > 0.4
    assert gradient_distance(box, np.full_like(box, 90)) == pytest.approx(0.5)
