"""Arithmetic of a translation: measured where it will be computed, before anything is planned, and then kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan_models import GeneratorConfig
from jobs import translate, verify
from pipeline import images
from pipeline.cluster import hardware
from pipeline.engine.records import layout
from pipeline.engine.records.limits import Limits
from pipeline.errors import UserError
from pipeline.models import measuring, native
from pipeline.models.arithmetic import THREAD_PIXELS, Arithmetic, Figures, Form
from pipeline.models.compiled import Package
from pipeline.translate.config import TranslateConfig
from pipeline.translation import arithmetic
from pipeline.translation.arithmetic import Generator, choose_arithmetic
from pipeline.translation.sizing import Planned
from tests import corpus

RECORDED = {"device": "cuda", "precision": "fp32", "trunk": "direct", "batch": 8}
NOTHING_KNOWN = Planned(0, [])


def choose(
    recorded: dict[str, Any] | None = None,
    compute: Any = arithmetic.here,
    planned: Planned = NOTHING_KNOWN,
    bundle: str = "bundle",
    width: int = 4,
    **options: Any,
) -> tuple[Arithmetic, Figures]:
    config = TranslateConfig(input="in", output="out", bundle=(bundle,), **options)
    generator = Generator(bundle, "a_to_b", GeneratorConfig(kind="resnet", width=width, depth=2, norm="instance"), 24)
    return choose_arithmetic(generator, config, recorded or {}, compute, lambda: planned)


@pytest.fixture(autouse=True)
def every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure for a few small images, too, and the same forms on every machine."""
    monkeypatch.setattr(arithmetic, "_SMALL_FLOP", 0)
    monkeypatch.setattr(native, "is_available", lambda: False)


@pytest.fixture
def source(tmp_path: Path) -> str:
    return corpus.write_folder(str(tmp_path / "in"), 6)


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    return corpus.write_bundle(str(tmp_path / "bundle"))


def seconds(monkeypatch: pytest.MonkeyPatch, **of: float) -> list[str]:
    """Let each precision or trunk take so many seconds an image; return the list of what was measured."""
    measured = list[str]()

    def measure(forms: list[Form], *_: Any, **__: Any) -> dict[Form, float]:
        measured.extend(map(str, forms))
        return {form: of[form.trunk if form.precision == "fp32" else form.precision] for form in forms}

    monkeypatch.setattr(measuring, "measure", measure)
    return measured


def run(source: str, bundle: str, output: Path, *options: str) -> int:
    return translate.main(["--input", source, "--bundle", bundle, "--output", str(output), "--local", *options])


def record(output: Path) -> Any:
    return layout.load_segments(layout.Output(str(output)))[0]


class TestOnACluster:
    @pytest.fixture(autouse=True)
    def no_gpu_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setenv("RAY_ADDRESS", "head:6379")

    def test_it_is_measured_where_it_will_be_computed(self) -> None:
        asked = []

        def compute(function: Callable[[], Any], **where: Any) -> Any:
            asked.append(where)
            return Arithmetic(**RECORDED, threads=None), Figures()  # type: ignore[arg-type]

        assert choose(compute=compute)[0].device == "cuda"
        assert asked == [{"device": "auto", "cpus": None, "gpus": None}]

    def test_a_driver_without_gpu_takes_the_record_at_its_word(self) -> None:
        found, _ = choose(RECORDED, compute=lambda *_, **__: pytest.fail("measured again"))
        assert (found.device, found.precision, found.batch, found.threads) == ("cuda", "fp32", 8, None)


def test_an_output_that_began_with_all_threads_on_each_image_goes_on_so() -> None:
    assert choose(precision="fp32", trunk="direct", limits=Limits(rows=8))[0].thread_pixels == THREAD_PIXELS
    began = {"device": "cpu", "precision": "fp32", "trunk": "direct", "batch": 1, "threads": 2}
    assert choose(began)[0].record() == began | {"compiled": ()}


def test_pictures_that_need_more_than_so_much_memory_go_in_tiles() -> None:
    limits, full_hd, larger = Limits(rows=8), (1080, 1920), (1440, 2560)
    found = choose(precision="fp32", trunk="direct", limits=limits, width=64)[0]
    assert (found.is_tiled(full_hd), found.is_tiled(larger)) == (False, True)
    assert choose(precision="fp32", trunk="direct", limits=limits, tile_megapixels=0.5)[0].tile_pixels == 500_000
    assert choose(found.record())[0].tile_pixels == found.tile_pixels


@pytest.mark.parametrize("local", [True, False])
def test_without_a_cluster_a_gpu_must_be_here(monkeypatch: pytest.MonkeyPatch, local: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if local:
        monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(UserError, match="this machine has none"):
        choose(device="cuda", precision="bf16", local=local)


def test_a_plain_run_measures_the_bundle_itself(bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No part of it is replaced: even the smallest network is timed, where small ones are not left out."""
    monkeypatch.setattr(measuring, "_SMALL_S", 0.0)
    chosen, figures = choose(bundle=bundle, local=True)
    assert list(figures.seconds) == [str(form) for form in measuring.forms("cpu", kind="resnet")]
    assert min(figures.seconds.values()) > 0
    assert str(chosen.form) in figures.seconds
    assert figures.side == 24


def test_the_record_has_choice_figures_and_machine_and_is_kept(
    source: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    measured = seconds(monkeypatch, direct=0.5, winograd=0.25, bf16=0.75)
    assert run(source, bundle, tmp_path / "out") == 0
    segment = record(tmp_path / "out")
    assert segment.recipe["arithmetic"]["trunk"] == "winograd"
    assert segment.measured["seconds"]["fp32, Winograd, eager"] == 0.25
    assert segment.measured["machine"] == hardware.describe("cpu")
    assert "fp32, Winograd, eager is the fastest here: fp32, Winograd, eager 250 ms; fp32, eager 500 ms" in caplog.text

    measured = seconds(monkeypatch, direct=0.25, winograd=0.5, bf16=0.75)
    (Path(source) / "new.png").write_bytes(images.encode(corpus.picture(6), images.Encoding()))
    assert run(source, bundle, tmp_path / "out") == 0
    assert len(layout.load_segments(layout.Output(str(tmp_path / "out")))) == 2
    assert measured == []
    assert verify.main(["--input", str(tmp_path / "out")]) == 0


def test_a_dry_run_measures_nothing(
    source: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source, bundle, tmp_path / "out", "--dry_run") == 0
    monkeypatch.setattr(measuring, "measure", lambda *_, **__: pytest.fail("measured"))
    assert run(source, bundle, tmp_path / "out", "--dry_run") == 0
    said = "9 inputs in 1 units or more, by the speed of the model, which is measured first"
    assert said in capsys.readouterr().out


def test_who_asks_for_all_of_it_waits_for_no_measurement(
    source: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = seconds(monkeypatch, direct=1.0)
    asked = ("--precision", "fp32", "--trunk", "direct", "--limits.rows", "4")
    assert run(source, bundle, tmp_path / "out", *asked) == 0
    assert measured == []
    assert record(tmp_path / "out").measured == {}


def test_units_are_cut_by_the_rate(
    source: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They stay so for inputs that come later, on whatever machine."""
    seconds(monkeypatch, direct=20.0, winograd=11.0, bf16=90.0)
    assert run(source, bundle, tmp_path / "out") == 0
    assert [unit.rows for unit in layout.load_units(layout.Output(str(tmp_path / "out")), 0)] == [2, 2, 2, 2, 1]
    seconds(monkeypatch, direct=1e-3, winograd=1e-3, bf16=1e-3)
    for i in range(5):
        (Path(source) / f"new{i}.png").write_bytes(images.encode(corpus.picture(i), images.Encoding()))
    assert run(source, bundle, tmp_path / "out", "--dry_run") == 0
    assert "14 inputs in 8 units\n" in capsys.readouterr().out


def test_units_of_larger_images_have_fewer_rows(bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds(monkeypatch, direct=1.0, winograd=1.0, bf16=1.0)
    (tmp_path / "large").mkdir()
    for i in range(64):
        picture = np.zeros((48, 48, 3), np.uint8)
        (tmp_path / "large" / f"{i}.png").write_bytes(images.encode(picture, images.Encoding()))
    for size, rows in (("native", 8), ("training", 16)):
        assert run(str(tmp_path / "large"), bundle, tmp_path / size, "--size", size) == 0
        assert next(layout.load_units(layout.Output(str(tmp_path / size)), 0)).rows == rows


def test_whoever_begins_first_decides_for_both(
    source: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another run begins and ends while this one measures, and finds another form the fastest."""
    output = tmp_path / "out"

    def measure(forms: list[Form], *_: Any, **__: Any) -> dict[Form, float]:
        seconds(monkeypatch, direct=1.0, winograd=0.5, bf16=2.0)
        assert run(source, bundle, output) == 0
        return {form: float(i) for i, form in enumerate(forms)}

    monkeypatch.setattr(measuring, "measure", measure)
    assert run(source, bundle, output) == 0
    assert record(output).recipe["arithmetic"]["trunk"] == "winograd"
    assert "was complete already" in capsys.readouterr().out
    assert verify.main(["--input", str(output)]) == 0


def test_what_the_user_asks_otherwise_is_still_refused(
    source: str, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source, bundle, tmp_path / "out", "--trunk", "direct") == 0
    assert run(source, bundle, tmp_path / "out", "--trunk", "winograd") == 2
    assert "arithmetic.trunk: direct there, winograd now" in capsys.readouterr().err


def test_a_machine_that_lacks_it_is_refused(
    source: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(hardware, "supported_precisions", lambda device: ("fp32", "bf16"))
        assert run(source, bundle, tmp_path / "out", "--precision", "bf16") == 0
    monkeypatch.setattr(hardware, "supported_precisions", lambda device: ("fp32",))
    assert run(source, bundle, tmp_path / "out") == 2
    assert "precision bf16 is not in the hardware of this cpu (" in capsys.readouterr().err


def test_a_few_small_images_wait_for_no_measurement(
    source: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = seconds(monkeypatch, direct=1.0, winograd=0.5, bf16=0.25)
    monkeypatch.setattr(arithmetic, "_SMALL_FLOP", 1e9)
    assert run(source, bundle, tmp_path / "out", "--dry_run") == 0
    assert run(source, bundle, tmp_path / "out") == 0
    assert run(source, bundle, tmp_path / "out", "--dry_run") == 0
    assert capsys.readouterr().out.count("9 inputs in 1 units\n") == 2
    assert measured == []
    assert record(tmp_path / "out").recipe["arithmetic"]["trunk"] == "direct"
    monkeypatch.setattr(arithmetic, "_SMALL_FLOP", 1e6)
    assert run(source, bundle, tmp_path / "larger") == 0
    assert measured


def test_the_trunk_in_c_takes_the_place_of_the_other(monkeypatch: pytest.MonkeyPatch, bundle: str) -> None:
    monkeypatch.setattr(native, "is_available", lambda: True)
    measured = seconds(monkeypatch, direct=1.0, winograd=0.5, winograd_c=0.25, bf16=2.0)
    assert choose(bundle=bundle, local=True)[0].trunk == "winograd_c"
    assert measured[:2] == ["fp32, eager", "fp32, Winograd in C"]
    measured.clear()
    assert choose(bundle=bundle, local=True, trunk="winograd", precision="fp32")[0].trunk == "winograd"
    assert measured == ["fp32, Winograd, eager"]


def test_what_is_compiled_stands_in_the_record_and_is_kept(
    source: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Compiled code is replaced by the eager network here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(Package, "load", lambda self: self.network)
    assert run(source, bundle, tmp_path / "out", "--compile", "always") == 0
    found = record(tmp_path / "out")
    assert found.recipe["arithmetic"]["compiled"] == [[24, 24]]
    assert [name for name in found.measured["seconds"] if name.endswith("compiled")]
    (Path(source) / "new.png").write_bytes(images.encode(corpus.picture(6), images.Encoding()))
    assert run(source, bundle, tmp_path / "out") == 0
    assert verify.main(["--input", str(tmp_path / "out")]) == 0
    assert run(source, bundle, tmp_path / "out", "--compile", "never") == 2
    assert "arithmetic.compiled" in capsys.readouterr().err
    assert run(source, bundle, tmp_path / "eager", "--compile", "never") == 0
    assert run(source, bundle, tmp_path / "eager", "--compile", "always") == 2
    assert "it began without compiled code" in capsys.readouterr().err
