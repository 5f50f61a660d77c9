"""Tests of jobs.export through its command line: a bundle becomes a file that gives the same, or a clear message."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

from gan_models import translation_mode
from jobs import export
from pipeline import storage
from pipeline.exchange import exporting
from pipeline.models.bundles import open_bundle
from tests import corpus


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    return corpus.write_bundle(f"{tmp_path}/bundle")


def run(bundle: str, output: str, *options: str) -> int:
    return export.main(["--bundle", bundle, "--output", output, *options])


def expected(bundle: str, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return translation_mode(open_bundle(bundle).generator())(image)


def refused(capfd: pytest.CaptureFixture[str], text: str) -> None:
    """Check that stderr has one line, with `text` in it, and nothing else."""
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert text in said.err


def test_onnx_from_a_bundle(bundle: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = str(tmp_path / "new" / "model.onnx")
    assert run(bundle, output) == 0
    said = capfd.readouterr()
    assert said.err == ""
    assert said.out.startswith(f"{output}: written: a_to_b of {bundle}, ")
    assert "multiples of 4" in said.out
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.onnx"]

    image = torch.rand(3, 3, 20, 32) * 2 - 1
    (found,) = onnxruntime.InferenceSession(output).run(None, {"image": image.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), expected(bundle, image), rtol=0, atol=1e-4)
    metadata = {entry.key: entry.value for entry in onnx.load(output).metadata_props}
    assert metadata["bundle_sha256"] == open_bundle(bundle).sha256
    assert (metadata["direction"], metadata["training_size"]) == ("a_to_b", "24")


# On a disk the tests above and below are.
@pytest.mark.parametrize(
    "any_prefix",
    ["s3", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("local", "memory", "gs"))],
    indirect=True,
)
def test_a_program_from_any_store_to_any_store(any_prefix: str, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = corpus.write_bundle(storage.join(any_prefix, "bundle"), kind="unet", depth=2, norm="batch")
    output = storage.join(any_prefix, "model.pt2")
    assert run(bundle, output) == 0
    assert capfd.readouterr().out.startswith(f"{output}: written: ")

    image = torch.rand(3, 3, 4, 12) * 2 - 1
    program = torch.export.load(io.BytesIO(storage.read(output))).module()
    assert torch.equal(program(image), expected(bundle, image))


@pytest.mark.long
def test_the_same_export_from_another_process_changes_nothing(bundle: str, tmp_path: Path) -> None:
    output = f"{tmp_path}/model.pt2"
    assert run(bundle, output) == 0
    before = storage.stat_file(output)
    command = [sys.executable, "-m", "jobs", "export", "--bundle", bundle, "--output", output]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith(f"{output}: was there already: ")
    assert storage.stat_file(output) == before


def test_another_file_is_left_alone(bundle: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "model.pt2"
    output.write_bytes(b"something else")
    assert run(bundle, str(output)) == 2
    refused(capfd, "model.pt2: is there already, and is not what")
    assert output.read_bytes() == b"something else"


@pytest.mark.parametrize("name", ["model", "model.pt", "model.ONNX"])
def test_a_name_that_says_no_format_is_refused(
    bundle: str, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(bundle, f"{tmp_path}/{name}") == 2
    refused(capfd, "its name must end in .onnx or .pt2")


def test_a_missing_bundle_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(f"{tmp_path}/none", f"{tmp_path}/model.pt2") == 2
    refused(capfd, f"{tmp_path}/none: no model bundle there")


def test_a_direction_that_the_bundle_lacks_is_named(
    bundle: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(bundle, f"{tmp_path}/model.pt2", "--direction", "b_to_a") == 2
    refused(capfd, "has no generator b_to_a: it has a_to_b")


def test_an_output_that_cannot_be_written_is_refused_first(
    bundle: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert run(bundle, f"{tmp_path}/file/model.pt2") == 2
    refused(capfd, "cannot be written")


def test_a_missing_package_is_one_line(
    bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert run(bundle, f"{tmp_path}/model.onnx") == 2
    refused(capfd, "pip install 'transdomain[onnx]'")


@pytest.mark.parametrize("difference", [2e-3, float("nan")])
def test_an_export_that_differs_is_not_published(
    bundle: str,
    difference: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(exporting, "check_pt2", lambda *_: difference)
    assert run(bundle, f"{tmp_path}/model.pt2") == 1
    refused(capfd, f"not written: the export differs from the generator by {difference:.2g}")
    assert not (tmp_path / "model.pt2").exists()
