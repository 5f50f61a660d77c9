"""Tests of jobs.import: checkpoints of the reference implementation become a bundle that translates as they did."""

from __future__ import annotations

import hashlib
import importlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_models import Bundle, DiscriminatorConfig, GeneratorConfig, build_discriminator, build_generator, load_bundle
from jobs import __main__ as transdomain
from pipeline import storage
from pipeline.models.bundles import open_bundle
from tests.gan_models import golden

job = importlib.import_module("jobs.import")

RESNET = GeneratorConfig(kind="resnet", depth=1, width=2, norm="instance")
UNET = GeneratorConfig(kind="unet", depth=3, width=2, norm="batch")
PATCH = DiscriminatorConfig(width=2, layers=1)
PAIRED_PATCH = DiscriminatorConfig(width=2, layers=1, in_channels=6, norm="batch")

Config = GeneratorConfig | DiscriminatorConfig


def state_of(config: Config) -> dict[str, Tensor]:
    build = build_generator if isinstance(config, GeneratorConfig) else build_discriminator
    return dict(build(config).state_dict())  # type: ignore[arg-type]


def write(prefix: str, files: Mapping[str, Config | Mapping[str, Any]]) -> dict[str, Any]:
    """Write files by name, from a configuration (with random weights) or a state; return what they hold."""
    states = {}
    for name, held in files.items():
        states[name] = state_of(held) if isinstance(held, Config) else held
        file = io.BytesIO()
        torch.save(states[name], file)
        storage.replace(storage.join(prefix, name), file.getvalue())
    return states


def same(network: torch.nn.Module, state: Mapping[str, Tensor]) -> bool:
    found = network.state_dict()
    return found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)


def imported(source: str, output: str, *options: str) -> Bundle:
    assert job.main(["--input", source, "--output", output, *options]) == 0
    return load_bundle(lambda name: storage.read(storage.join(output, name)), discriminators=True)


def refused(capsys: pytest.CaptureFixture[str], source: str, output: str, *options: str) -> str:
    """Return the one line that is printed about what cannot become a bundle."""
    capsys.readouterr()
    assert job.main(["--input", source, "--output", output, *options]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.fixture
def source(tmp_path: Path) -> str:
    return str(tmp_path / "checkpoints")


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "bundle")


# --- agreement with the reference --------------------------------------------------------------------------------


def golden_generator(path: Path) -> bool:
    return re.match("unet|resnet", path.stem) is not None


@pytest.mark.parametrize("path", golden.files("networks/*.pth"))
def test_golden_network_comes_through_the_bundle(path: Path, source: str, output: str) -> None:
    held = torch.load(path, weights_only=True)
    if golden_generator(path):
        write(source, {"latest_net_G.pth": held["state_dict"]})
        network = imported(source, output).generator()
    else:
        # It sees six channels, as pix2pix's discriminator does; a bundle needs a generator with it.
        write(source, {"latest_net_G.pth": UNET, "latest_net_D.pth": held["state_dict"]})
        network = imported(source, output).discriminators["a_to_b"]

    assert same(network, held["state_dict"])
    with torch.no_grad():
        torch.testing.assert_close(network(held["x"]), held["y"], rtol=0, atol=1e-5)


# --- roles and directions ----------------------------------------------------------------------------------------


def test_a_whole_cyclegan_from_and_to_any_store(any_prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = storage.join(any_prefix, "in"), storage.join(any_prefix, "out")
    forth = GeneratorConfig(kind="resnet", depth=1, width=2, norm="instance", in_channels=1, out_channels=4)
    back = GeneratorConfig(kind="resnet", depth=2, width=2, norm="instance", in_channels=4, out_channels=1)
    of_b, of_a = DiscriminatorConfig(width=2, in_channels=4), DiscriminatorConfig(width=2, in_channels=1)
    files: dict[str, Config] = {"G_A": forth, "G_B": back, "D_A": of_b, "D_B": of_a}
    states = write(source, {f"latest_net_{role}.pth": config for role, config in files.items()})

    bundle = imported(source, output)

    assert bundle.objective == "cyclegan"
    assert bundle.directions == ("a_to_b", "b_to_a")
    assert bundle.generator_configs == {"a_to_b": forth, "b_to_a": back}
    assert bundle.discriminator_configs == {"a_to_b": of_b, "b_to_a": of_a}
    assert same(bundle.generators["a_to_b"], states["latest_net_G_A.pth"])
    assert same(bundle.generators["b_to_a"], states["latest_net_G_B.pth"])
    assert same(bundle.discriminators["a_to_b"], states["latest_net_D_A.pth"])
    assert same(bundle.discriminators["b_to_a"], states["latest_net_D_B.pth"])
    assert bundle.training_size == 256
    assert open_bundle(output).sha256 == bundle.sha256
    said = capsys.readouterr().out
    assert "latest_net_G_A.pth (G_A): a ResNet generator with 1 block, width 2, 1 to 4 channels, instance norm" in said
    assert f"{output}: cyclegan bundle, a_to_b, b_to_a, fingerprint {bundle.sha256}: written" in said


def test_the_direction_of_the_training_is_that_of_g_a(source: str, output: str) -> None:
    states = write(source, {f"latest_net_{role}.pth": RESNET for role in ("G_A", "G_B")})
    bundle = imported(source, output, "--direction", "b_to_a")
    assert bundle.directions == ("b_to_a", "a_to_b")
    assert same(bundle.generators["b_to_a"], states["latest_net_G_A.pth"])


def test_g_b_alone_translates_the_other_way(source: str, output: str) -> None:
    write(source, {"latest_net_G_B.pth": RESNET, "latest_net_D_B.pth": PATCH})
    bundle = imported(source, output)
    assert bundle.directions == ("b_to_a",)
    assert list(bundle.discriminators) == ["b_to_a"]


@pytest.mark.parametrize(
    ("files", "objective"),
    [
        ({"G": UNET}, "pix2pix"),
        ({"G": UNET, "D": PAIRED_PATCH}, "pix2pix"),
        ({"G": UNET, "D": PATCH}, "cyclegan"),
        ({"G": RESNET}, "cyclegan"),
        ({"G": RESNET, "D": PAIRED_PATCH}, "pix2pix"),
        ({"G": RESNET, "D": PATCH}, "cyclegan"),
        ({"G_A": UNET}, "cyclegan"),
    ],
)
def test_the_objective_is_inferred(files: dict[str, Config], objective: str, source: str, output: str) -> None:
    write(source, {f"latest_net_{role}.pth": config for role, config in files.items()})
    bundle = imported(source, output, "--direction", "b_to_a")
    assert bundle.objective == objective
    assert bundle.directions == ("b_to_a",)
    assert list(bundle.discriminators) == (["b_to_a"] if "D" in files else [])


def test_one_file_is_read_alone_and_its_name_tells_its_role(source: str, output: str) -> None:
    states = write(source, {"horse2zebra.pth": RESNET, "7_net_G_B.pth": RESNET, "latest_net_D.pth": PATCH})
    bundle = imported(f"{source}/horse2zebra.pth", output)
    assert bundle.directions == ("a_to_b",)
    assert same(bundle.generator(), states["horse2zebra.pth"])
    assert imported(f"{source}/7_net_G_B.pth", f"{output}2").directions == ("b_to_a",)


def test_the_epoch_is_chosen(source: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    states = write(source, {f"{epoch}_net_G.pth": RESNET for epoch in ("latest", "5", "10", "iter_200")})
    for epoch in ("latest", "5", "iter_200"):
        assert same(imported(source, f"{output}{epoch}", "--epoch", epoch).generator(), states[f"{epoch}_net_G.pth"])
    assert "no checkpoint of epoch 20; it has 5, 10, latest, iter_200" in refused(
        capsys, source, output, "--epoch", "20"
    )


def test_provenance_names_the_files_and_what_was_changed(
    source: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(source, {"latest_net_G.pth": {f"module.{name}": tensor for name, tensor in state_of(RESNET).items()}})
    bundle = imported(source, output, "--training_size", "128")
    assert bundle.training_size == 128
    assert bundle.provenance["files"] == [
        {
            "name": "latest_net_G.pth",
            "role": "G",
            "sha256": hashlib.sha256(Path(f"{source}/latest_net_G.pth").read_bytes()).hexdigest(),
            "recognised": "a ResNet generator with 1 block, width 2, 3 to 3 channels, instance norm",
            "notes": ["took the prefix module. off every name"],
        }
    ]
    assert "\n  took the prefix module. off every name\n" in capsys.readouterr().out


# --- again, dry, and over something else -------------------------------------------------------------------------


def test_a_finished_import_has_nothing_to_do(source: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(source, {"latest_net_G.pth": RESNET, "latest_net_D.pth": PATCH})
    imported(source, output)
    before = {entry.name: entry.version for entry in storage.list_files(output)}
    imported(source, output)
    assert "there already, nothing to do" in capsys.readouterr().out
    assert {entry.name: entry.version for entry in storage.list_files(output)} == before


@pytest.mark.parametrize("lost", ["config.json", "a_to_b.safetensors"])
def test_an_import_that_was_cut_short_is_made_whole(lost: str, source: str, output: str) -> None:
    write(source, {"latest_net_G.pth": RESNET})
    whole = imported(source, output)
    storage.delete(storage.join(output, lost))
    storage.replace(storage.join(output, ".config.json.0.tmp"), b"left by a kill")
    assert imported(source, output).sha256 == whole.sha256


def test_config_json_is_written_last(source: str, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(source, {"latest_net_G.pth": RESNET, "latest_net_D.pth": PATCH})
    written: list[str] = []
    replace = storage.replace

    def noting(url: str, data: bytes) -> None:
        written.append(url.rsplit("/", 1)[1])
        replace(url, data)

    monkeypatch.setattr(storage, "replace", noting)
    imported(source, output)
    assert written == ["a_to_b.safetensors", "a_to_b.discriminator.safetensors", "README.md", "config.json"]


def test_another_bundle_is_never_overwritten(source: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(source, {"latest_net_G.pth": RESNET})
    first = imported(source, output)
    assert "training_size is 256 and would be 64" in refused(capsys, source, output, "--training_size", "64")
    write(source, {"latest_net_G.pth": RESNET})
    assert "another bundle is there, generators.a_to_b.weights_sha256" in refused(capsys, source, output)
    assert open_bundle(output).sha256 == first.sha256


@pytest.mark.parametrize("config", [b"{}", b"[]", b"no JSON"])
def test_something_else_is_never_overwritten(
    config: bytes, source: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(source, {"latest_net_G.pth": RESNET})
    storage.replace(f"{output}/config.json", config)
    assert "another bundle is there" in refused(capsys, source, output)
    assert "something else is there (latest_net_G.pth)" in refused(capsys, source, source)


def test_a_dry_run_touches_nothing(source: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(source, {"latest_net_G.pth": RESNET})
    assert job.main(["--input", source, "--output", output, "--dry_run"]) == 0
    assert "a ResNet generator" in (said := capsys.readouterr().out)
    assert "a dry run, nothing written" in said
    assert not Path(output).exists()


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, "no checkpoint there"),
        ({"net.pth": RESNET}, "no checkpoint there"),
        ({"latest_net_D.pth": PATCH}, "a bundle needs a generator, and there is latest_net_D.pth alone"),
        ({"latest_net_G.pth": RESNET, "latest_net_G_A.pth": RESNET}, "a lone G stands without G_A and G_B"),
        ({"latest_net_G.pth": RESNET, "latest_net_D_A.pth": PATCH}, "latest_net_D_A.pth judges what G_A makes"),
        ({"latest_net_G_A.pth": RESNET, "latest_net_D_B.pth": PATCH}, "there is no G_B"),
        ({"latest_net_G.pth": PATCH}, "taken for a generator (G), and holds a PatchGAN discriminator"),
        ({"latest_net_D.pth": RESNET}, "taken for a discriminator (D), and holds a ResNet generator"),
        ({"latest_net_G_A.pth": RESNET, "latest_net_D_A.pth": PAIRED_PATCH}, "does not take what the other makes"),
        ({"latest_net_G.pth": GeneratorConfig(depth=9, width=1)}, "takes multiples of 512"),
        ({"latest_net_G.pth": {"a": torch.zeros(1)}}, "latest_net_G.pth: it is no network of the reference"),
        ({"latest_net_G.pth": {"a": "b"}}, "latest_net_G.pth: it holds something other than a flat state_dict"),
    ],
)
def test_what_cannot_become_a_bundle_is_one_line_and_exit_code_2(
    files: Mapping[str, Any], expected: str, source: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(source, files)
    assert expected in refused(capsys, source, output)
    assert not Path(output).exists()


def test_generators_that_do_not_undo_each_other_are_refused(
    source: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    grey = GeneratorConfig(kind="resnet", depth=1, width=2, norm="instance", in_channels=1)
    write(source, {"latest_net_G_A.pth": grey, "latest_net_G_B.pth": RESNET})
    assert "one does not undo the other" in refused(capsys, source, output)


def test_a_damaged_file_is_named(source: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(source, {"latest_net_G.pth": RESNET})
    path = Path(f"{source}/latest_net_G.pth")
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{path}: it is no checkpoint of torch, or is truncated or damaged" in refused(capsys, source, output)


def test_what_cannot_be_read_or_written_is_refused(
    source: str, output: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "no checkpoint there" in refused(capsys, str(tmp_path / "nowhere"), output)
    assert "no filesystem for this URL" in refused(capsys, "nowhere://x/latest_net_G.pth", output)
    write(source, {"latest_net_G.pth": RESNET})
    (tmp_path / "file").write_text("in the way")
    assert str(tmp_path / "file") in refused(capsys, source, str(tmp_path / "file" / "bundle"))
    assert "training_size is 0: it must be at least 1" in refused(capsys, source, output, "--training_size", "0")


def test_it_is_among_the_jobs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["transdomain", "import", "--input", "nowhere", "--output", "out"])
    assert transdomain.main() == 2
    assert "no checkpoint there" in capsys.readouterr().err
