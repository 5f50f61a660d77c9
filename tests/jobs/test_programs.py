"""Programs translate as bundles do: .pt2, ONNX and callables, killed and run again, in each form and size policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gan_models import GeneratorConfig, build_generator
from gan_models.export import export_onnx, export_pt2
from jobs import translate, verify
from pipeline import failpoints, images
from pipeline.engine.records import layout
from pipeline.errors import UserError
from pipeline.models.arithmetic import exact
from pipeline.models.bundles import open_bundle
from pipeline.models.programs import describe_program
from pipeline.translation.models import open_model
from pipeline.translation.stages import Translate
from tests import corpus
from tests.jobs.test_one_output import end_at, last_line

SIDE = 24


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the URL of the same generator in every kind of file, and of a callable."""
    folder = tmp_path_factory.mktemp("models")
    found = {"bundle": corpus.write_bundle(str(folder / "bundle"), size=SIDE)}
    bundle = open_bundle(found["bundle"])
    generator, config, notes = bundle.generator(), bundle.generator_config, {"training_size": str(SIDE)}
    found["pt2"], found["onnx"] = str(folder / "model.pt2"), str(folder / "model.onnx")
    Path(found["pt2"]).write_bytes(export_pt2(generator, config, notes=notes))
    Path(found["onnx"]).write_bytes(export_onnx(generator, config, notes=notes))
    found["callable"] = described(folder, "inverted", value_range=[0, 1], dtype="uint8", training_size=SIDE)
    return found


def described(folder: Path, program: str, **said: Any) -> str:
    """Write the YAML file of a program, or of a factory of `tests.programs`, and return where it is."""
    if "." not in program:
        program, said = f"tests.programs:{program}", {"version": "1", "channels": [3, 3]} | said
    path = folder / f"{program.rpartition(':')[2]}.yaml"
    lines = {"program": program, "size_multiple": 1} | said
    path.write_text("".join(f"{name}: {value}\n" for name, value in lines.items() if value is not None))
    return str(path)


def run(source: str, output: Path, bundle: str, *options: str) -> int:
    arguments = ["--input", source, "--output", str(output), "--bundle", bundle, "--local", "--limits.rows", "4"]
    return translate.main([*arguments, "--encoding.codec", "png", *options])


@pytest.fixture
def source(tmp_path: Path) -> str:
    return corpus.write_folder(str(tmp_path / "in"), 7, width=28)


@pytest.mark.parametrize(
    ("kind", "form", "size"),
    [
        ("onnx", "folder", "original"),
        ("callable", "parquet", "training"),
        pytest.param("pt2", "parquet", "native", marks=pytest.mark.long),
        pytest.param("pt2", "folder", "training", marks=pytest.mark.long),
        pytest.param("onnx", "parquet", "native", marks=pytest.mark.long),
        pytest.param("callable", "folder", "native", marks=pytest.mark.long),
    ],
)
def test_a_program_is_killed_and_run_again_to_the_same_bytes(
    kind: str,
    form: str,
    size: str,
    models: dict[str, str],
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ["--form", form, "--size", size]
    assert run(source, tmp_path / "whole", models[kind], *options) == 0
    for point in ("after data", "after commit"):
        with monkeypatch.context() as patch:
            patch.setattr(failpoints, "point", end_at(point))
            assert run(source, tmp_path / point, models[kind], *options) == 1
        assert run(source, tmp_path / point, models[kind], *options) == 0
        assert corpus.contents(str(tmp_path / point)) == corpus.contents(str(tmp_path / "whole"))
    assert verify.main(["--input", str(tmp_path / "whole")]) == 0


def pixels(output: Path) -> dict[str, np.ndarray]:
    return {row["key"]: images.decode(row["image"]["bytes"]).pixels.astype(int) for row in corpus.rows(str(output))}


def test_exports_give_what_their_bundle_gives(models: dict[str, str], source: str, tmp_path: Path) -> None:
    for kind, url in models.items():
        assert run(source, tmp_path / kind, url, "--trunk", "direct", "--precision", "fp32") == 0
    expected = pixels(tmp_path / "bundle")
    assert len(expected) == 7
    for kind in ("pt2", "onnx"):
        found = pixels(tmp_path / kind)
        assert found.keys() == expected.keys()
        assert max(np.abs(found[key] - expected[key]).max() for key in expected) <= 1
    sources = {key: images.decode((Path(source) / key).read_bytes()).pixels.astype(int) for key in expected}
    found = pixels(tmp_path / "callable")
    assert all((found[key] == 255 - sources[key]).all() for key in sources)


def test_range_and_multiple_are_those_of_the_file_that_says_them(source: str, tmp_path: Path) -> None:
    program = described(tmp_path, "darker", value_range=[0, 1], size_multiple=8)
    assert run(source, tmp_path / "out", program) == 0
    found = pixels(tmp_path / "out")
    decoded = {key: images.decode((Path(source) / key).read_bytes()).pixels.astype(int) for key in found}
    assert len(found) == 7
    assert max(np.abs(found[key] - decoded[key] // 2).max() for key in found) <= 1


def test_a_program_of_one_size_is_measured_and_translates(source: str, tmp_path: Path) -> None:
    """What torch.export writes without a word about shapes."""
    same = described(tmp_path, save(Same(), tmp_path / "same.pt2", torch.zeros(1, 3, 32, 32)), value_range=[-1, 1])
    assert run(source, tmp_path / "out", same, "--size", "original") == 0
    assert len(corpus.rows(str(tmp_path / "out"))) == 7


def test_an_export_of_the_way_back_takes_the_other_side(tmp_path: Path) -> None:
    config = GeneratorConfig(kind="resnet", width=4, depth=1, norm="instance")
    notes = {"training_size": "24", "direction": "b_to_a"}
    (tmp_path / "back.pt2").write_bytes(export_pt2(build_generator(config), config, notes=notes))
    model = open_model(str(tmp_path / "back.pt2"), None)
    assert model.direction == "b_to_a"
    assert open_model(str(tmp_path / "back.pt2"), "b_to_a").generator.direction == "b_to_a"


def test_two_factories_of_a_module_are_two_models(tmp_path: Path) -> None:
    found = {
        describe_program(described(tmp_path, name, value_range=[0, 1], size_multiple=8)).sha256
        for name in ("darker", "inverted")
    }
    assert len(found) == 2


def test_weights_in_another_file_are_refused(models: dict[str, str], tmp_path: Path) -> None:
    import onnx

    model = onnx.load_model(models["onnx"])
    onnx.save(model, str(tmp_path / "model.onnx"), save_as_external_data=True, size_threshold=0)
    with pytest.raises(ValueError, match="its weights are in another file"):
        describe_program(str(tmp_path / "model.onnx"))


def test_a_worker_with_another_program_does_not_compute(source: str, tmp_path: Path) -> None:
    program = described(tmp_path, "darker", value_range=[0, 1], size_multiple=8)
    arithmetic = exact("cpu", batch=1)
    Translate(program, None, arithmetic, sha256=describe_program(program).sha256)
    with pytest.raises(ValueError, match="another one than that which the job was planned with"):
        Translate(program, None, arithmetic, sha256="of another file")


def test_jobs_that_need_a_bundle_say_so(models: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"model\.pt2: is a program, which translates only"):
        open_bundle(models["pt2"])


def test_the_record_names_the_program_and_another_is_refused(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = described(tmp_path, "darker", value_range=[0, 1], size_multiple=8)
    assert run(source, tmp_path / "out", program) == 0
    [segment] = layout.load_segments(layout.Output(str(tmp_path / "out")))
    arithmetic = segment.recipe["arithmetic"]
    assert (arithmetic["batch"], arithmetic["precision"], arithmetic["trunk"]) == (1, "fp32", "direct")
    assert "tile_pixels" not in arithmetic
    assert run(source, tmp_path / "out", described(tmp_path, "darker", value_range=[0, 1], size_multiple=8)) == 0
    changed = described(tmp_path, "darker", value_range=[0, 1], size_multiple=8, version="2")
    assert run(source, tmp_path / "out", changed) == 2
    assert "model" in last_line(capsys)


def test_several_images_at_once_have_to_be_independent(
    source: str, models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dependent = described(tmp_path, "less_the_mean", value_range=[-1, 1])
    assert run(source, tmp_path / "alone", dependent) == 0
    assert run(source, tmp_path / "together", dependent, "--batch", "4") != 0
    assert "depend on the other images of a batch; leave out --batch" in last_line(capsys)
    assert run(source, tmp_path / "pt2", models["pt2"], "--batch", "4") == 0


class Sum(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


class Same(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.clone()


def save(module: nn.Module, path: Path, *examples: torch.Tensor) -> str:
    torch.export.save(torch.export.export(module, examples), path)
    return path.name


def test_what_does_not_fit_is_said_before_the_work(
    source: str, models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = save(Sum(), tmp_path / "two.pt2", torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    fixed = save(Same(), tmp_path / "fixed.pt2", torch.zeros(1, 3, 16, 16))
    grey = save(Same(), tmp_path / "grey.pt2", torch.zeros(1, 1, 16, 16))
    flat = save(Same(), tmp_path / "flat.pt2", torch.zeros(1, 48))
    (tmp_path / "no.pt2").write_bytes(b"PK and no more")
    (tmp_path / "no.onnx").write_bytes(b"no model")
    told: dict[str, Any] = {"value_range": [0, 1]}

    def refused(bundle: str, *options: str) -> str:
        output = tmp_path / "refused"
        assert run(source, output, bundle, *options) == 2
        assert not output.exists()
        return last_line(capsys)

    assert "has 2 inputs, and a generator of images has one" in refused(described(tmp_path, two, **told))
    assert "takes images of 16 × 16 pixels alone; use --size training" in refused(described(tmp_path, fixed, **told))
    assert "images are RGB of 8 bits, and the model takes grey" in refused(described(tmp_path, grey, **told))
    assert "its input has 2 dimensions" in refused(described(tmp_path, flat, **told))
    assert "no program of torch.export" in refused(str(tmp_path / "no.pt2"))
    assert "no ONNX model" in refused(str(tmp_path / "no.onnx"))
    line = refused(str(tmp_path / fixed))
    assert "does not say its value_range and size_multiple; write a YAML file with `program: fixed.pt2`" in line
    assert "no such file" in refused(described(tmp_path, "none.pt2", **told))
    assert "does not know scale" in refused(described(tmp_path, fixed, scale=2, **told))
    assert "value_range must rise" in refused(described(tmp_path, fixed, value_range=[1, 0]))
    assert "is no number" in refused(described(tmp_path, fixed, value_range="[low, high]"))
    assert "dtype is 'uint8'; it must be float32" in refused(described(tmp_path, fixed, dtype="uint8", **told))
    assert "lacks `version`" in refused(described(tmp_path, "darker", version=None, **told))
    assert "write a YAML file with `program: tests.programs:darker`" in refused("tests.programs:darker")
    gone = described(tmp_path, "darker", **told)
    Path(gone).write_text(Path(gone).read_text().replace("tests.programs", "tests.nowhere"))
    assert "module tests.nowhere cannot be found" in refused(gone)
    assert "training_size, which --size training needs" in refused(
        described(tmp_path, "darker", size_multiple=8, **told), "--size", "training"
    )
    assert "has no generator b_to_a; it has a_to_b" in refused(models["pt2"], "--direction", "b_to_a")
    half = save(Same().half(), tmp_path / "half.pt2", torch.zeros(1, 3, 16, 16, dtype=torch.float16))
    assert "numbers that are not fp32" in refused(described(tmp_path, half, **told))
    other = described(tmp_path, fixed, training_size=32, **told)
    assert "16 × 16 pixels alone, which do not fit" in refused(other, "--size", "training")
    fixed_program = described(tmp_path, fixed, **told)
    assert "takes 1 images at once; leave out --batch" in refused(fixed_program, "--batch", "4", "--size", "training")
    assert "runs as it was made" in refused(fixed_program, "--size", "training", "--precision", "bf16")
    assert "runs as it was made" in refused(models["pt2"], "--compile", "always")
    assert "direction is 'up'" in refused(described(tmp_path, fixed, direction="up", **told))
    assert "is no number" in refused(described(tmp_path, fixed, value_range="0 to 1"))


@pytest.mark.parametrize(
    ("factory", "why"),
    [
        ("cropped", "gave [1, 3, "),
        ("nothing", "returned NoneType, and no function"),
        ("failing", "no weights for"),
        ("NOT_CALLABLE", "has no function NOT_CALLABLE"),
        ("missing", "has no function missing"),
    ],
)
def test_a_callable_at_fault_costs_no_image(
    factory: str, why: str, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source, tmp_path / "out", described(tmp_path, factory, value_range=[0, 1])) != 0
    assert why in capsys.readouterr().err
    assert not (tmp_path / "out/_SUCCESS").exists()
    assert not list((tmp_path / "out").glob("_quarantine/*"))
