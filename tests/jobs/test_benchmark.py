"""Benchmark on a tiny network: it runs, prints its tables in order, and writes its numbers."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gan_models import GeneratorConfig
from gan_models.complexity import flop_of
from jobs import benchmark
from pipeline.benchmark import gpu
from pipeline.benchmark.basis import limits
from pipeline.benchmark.basis.checks import Row, run_process
from pipeline.benchmark.basis.config import GpuBenchmarkConfig
from pipeline.cluster import hardware
from pipeline.scores.extractors.installed import INSTALL, extractor_is_there
from pipeline.stores.forms.registry import writable_forms


@pytest.mark.long
def test_it_measures_everything_in_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["translate", "--quick", "--device", "cpu", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    order = ["Machine", "Its own limits", "dense matmul, fp32", "memory copy", "plain loop", "model alone", "pipeline"]
    assert [printed.index(word) for word in order] == sorted(printed.index(word) for word in order)
    found = json.loads((tmp_path / "benchmark_translate.json").read_text())
    assert set(found["matmul_flops"]) == set(hardware.supported_precisions("cpu"))
    rates = [found["plain"], found["model"], found["pipeline"]["rate"], *found["best"].values()]
    rates += [number for ratio in found["ratios"].values() for number in ratio.values()]
    assert all(rate > 0 for rate in rates)
    expected = pytest.approx(found["pipeline"]["rate"] / found["model"])
    assert found["ratios"]["pipeline / model alone"] == {"median": expected, "of_bests": expected}
    assert found["pipeline"]["first_s"] < found["pipeline"]["wall_s"]


@pytest.mark.long
def test_it_takes_corpora_through_every_step_within_their_bounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (scratch := tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    assert benchmark.main(["scale", "--quick", "--output", str(tmp_path)]) == 0
    rows = [
        row for check in json.loads((tmp_path / "benchmark_scale.json").read_text())["checks"] for row in check["rows"]
    ]
    found = {what: (goal, met) for what, _, goal, met in rows}
    for step in ("plan", "resume", "finish", "again"):
        assert found[f"6,000 rows: {step}, s"] == ("60 at most", True)
        assert found[f"6,000 rows: {step}, MB"] == ("1000 at most", True)
    assert found["6,000 rows: verify, MB"] == ("1000 at most", True)
    assert found["4,000 rows: plan in a worker, MB"] == ("200 at most", True)
    assert found["300 files: resume, s"] == ("60 at most", True)
    assert "300 files: list, s" in capsys.readouterr().out
    assert not list(scratch.iterdir())


@pytest.mark.long
def test_it_measures_every_form_of_the_generator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["generator", "--quick", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "benchmark_generator.json").read_text())
    assert {form["trunk"] for form in found["forms"]} == {"direct", "winograd"}
    assert all(rate > 0 for rates in found["rates"] for rate in rates)
    assert "fp32, Winograd, eager" in printed


@pytest.mark.long
@pytest.mark.parametrize(
    ("parts", "order", "measured"),
    [
        (
            ["loader"],
            ["decode and resize", "loader alone, in memory", "loader alone, streamed", "training step alone"],
            {"rates": 6, "forms": 0, "packing": 0},
        ),
        (
            ["forms", "packing"],
            ["decode alone", "from parquet", "from folder", "plain script", "pack, in one"],
            {"rates": 0, "forms": 1 + len(writable_forms()), "packing": 3},
        ),
    ],
)
def test_it_measures_each_way_in(
    parts: list[str], order: list[str], measured: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(["ingest", "--quick", "--parts", *parts, "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert [printed.index(word) for word in order] == sorted(printed.index(word) for word in order)
    found = json.loads((tmp_path / "benchmark_ingest.json").read_text())
    assert {part: len(found[part]) for part in measured} == measured
    assert all(rate > 0 for part in measured for rates in found[part].values() for rate in rates)


@pytest.mark.long
@pytest.mark.parametrize("recipe", ["cyclegan", "pix2pix_fast"])
def test_it_measures_every_form_of_a_step(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--recipe", f"jobs/recipes/{recipe}.yaml", "--output", str(tmp_path)]
    assert benchmark.main(["step", "--quick", *options]) == 0
    assert "fp32, eager" in capsys.readouterr().out
    found = json.loads((tmp_path / "benchmark_step.json").read_text())
    expected = [(precision, "direct") for precision in hardware.supported_precisions("cpu")]
    if recipe == "cyclegan":
        expected.insert(1, ("fp32", "winograd"))
    assert [(form["precision"], form["trunk"]) for form in found["forms"]] == expected
    assert all(second > 0 for seconds in found["seconds"] for second in seconds)


def test_it_measures_a_step_as_on_a_machine_without_bf16(tmp_path: Path) -> None:
    assert benchmark.main(["step", "--quick", "--precision", "fp32", "--output", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "benchmark_step.json").read_text())
    assert [(form["precision"], form["trunk"]) for form in found["forms"]] == [("fp32", "direct"), ("fp32", "winograd")]


@pytest.mark.long
def test_it_measures_the_engine_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["engine", "--quick", "--output", str(tmp_path)]) == 0
    assert "2 actors" in capsys.readouterr().out
    found = json.loads((tmp_path / "benchmark_engine.json").read_text())
    assert set(found["busy"]) == {"1", "2"}
    assert all(0 < busy <= 1 for busy in found["busy"].values())


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_no_ratio_falls_far_below_its_goal(tmp_path: Path) -> None:
    """Two thirds of a goal: a machine that others use, too, may take the rest."""
    options = ["--images", "16", "--plain_images", "1", "--output", str(tmp_path)]
    assert benchmark.main(["translate", *options]) == 0
    found = json.loads((tmp_path / "benchmark_translate.json").read_text())
    assert found["goals"]
    ratios = {name: found["ratios"][name]["median"] for name in found["goals"]}
    assert {name: ratio for name, ratio in ratios.items() if ratio < found["goals"][name] * 2 / 3} == {}


@pytest.mark.long
def test_it_measures_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["start", "--quick", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "benchmark_start.json").read_text())
    assert list(found["seconds"]) == list(limits.START_S) == list(found["goals"])
    assert all(what in printed and seconds[0] > 0 for what, seconds in found["seconds"].items())
    assert found["seconds"]["--help"] < found["seconds"]["first commit, on Ray"]


@pytest.mark.long
def test_without_a_name_it_compares_everything_with_its_goal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All but the name: tiny inputs."""
    assert benchmark.main(["goals", "--quick", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "benchmark_goals.json").read_text())
    assert [(check["name"], check["state"]) for check in found["checks"]] == [
        (name, "passed") for name in ("start", "engine", "translate", "step", "workers")
    ]
    rows = [row for check in found["checks"] for row in check["rows"]]
    assert len(rows) > 10
    assert all(met in (True, False) for *_, met in rows)
    assert "workers / one worker" in " ".join(printed.split())


def measured_tiles(picture: str, folder: Path) -> Any:
    assert benchmark.main(["tiles", "--quick", "--pictures", picture, "--output", str(folder)]) == 0
    [check] = json.loads((folder / "benchmark_tiles.json").read_text())["checks"]
    assert check["state"] == "passed"
    return check


@pytest.mark.long  # that tiles give the pixels of the whole is tested without a benchmark, too
def test_tiles_are_compared_with_the_whole(tmp_path: Path) -> None:
    narrow = measured_tiles("narrow", tmp_path)
    assert narrow["numbers"]["decibel"] > 60
    assert narrow["numbers"]["tiled"]["tiles"] == 8


@pytest.mark.long
def test_a_picture_that_fits_in_no_memory_is_made_in_tiles_alone(tmp_path: Path) -> None:
    large = measured_tiles("large", tmp_path)
    assert large["numbers"]["tiled"]["tiles"] > 1
    assert large["rows"][1][3] is True


@pytest.mark.long
def test_scores_of_pairs_and_of_sets_are_measured(tmp_path: Path) -> None:
    if not extractor_is_there():
        pytest.skip(INSTALL)
    assert benchmark.main(["scores", "--quick", "--output", str(tmp_path)]) == 0
    checks = json.loads((tmp_path / "benchmark_scores.json").read_text())["checks"]
    assert [(check["name"], check["state"]) for check in checks] == [("pairs", "passed"), ("sets", "passed")]
    pairs, sets = (check["numbers"] for check in checks)
    assert set(pairs["seconds"]) == {"ours", "torchmetrics, fp32", "torchmetrics, fp64"}
    assert all(each > 0 for some in pairs["seconds"].values() for each in some)
    assert sets["seconds"][0] > 0


def test_the_network_costs_what_was_published() -> None:
    assert flop_of(GeneratorConfig(kind="resnet", width=64, depth=9, norm="instance"), 256) == pytest.approx(
        2 * 49.55e9, rel=1e-3
    )


@pytest.mark.parametrize("arguments", [["train"], ["--quick"]])
def test_it_says_which_benchmarks_there_are(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(arguments) == 2
    assert "name one of goals, start, translate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--images", "1"], "images is 1: it must be at least 2"),
        (["--size", "30"], "size is 30"),
        (["--images", "4", "--batch", "4", "--device", "cpu", "--width", "4", "--size", "32"], "8 are the fewest"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    options: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(["translate", *options]) == 2
    assert expected in capsys.readouterr().err


def test_a_step_that_the_demonstration_has_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["ingest", "--size", "100"]) == 2
    assert "powers of two" in capsys.readouterr().err


def test_the_checks_of_a_gpu_need_one(capsys: pytest.CaptureFixture[str]) -> None:
    if hardware.default_device() == "cuda":
        pytest.skip("there is a GPU here")
    assert benchmark.main(["gpu"]) == 2
    assert capsys.readouterr().err == (
        "benchmark gpu: it needs a GPU, and this machine has none; run it where there is one\n"
    )


def test_a_check_that_fails_keeps_no_other_from_running_and_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def python(code: str) -> Callable[..., tuple[list[Row], dict[str, str]]]:
        def check(config: object, scratch: str, ends: float) -> tuple[list[Row], dict[str, str]]:
            said = run_process([sys.executable, "-c", code], min(ends, time.monotonic() + 3))
            return [Row("a rate", said, "7", False)], {"said": said}

        return check

    checks = {
        "translate": python("print('first'); print('== 6 passed ==')"),
        "step": python("raise SystemExit('no memory')"),
        "facades": gpu._facades,
        "goldens": python("import time; time.sleep(60)"),
    }
    monkeypatch.setattr(gpu, "_CHECKS", checks)
    monkeypatch.setattr(gpu.hardware, "default_device", lambda: "cuda")
    monkeypatch.setattr(gpu, "machine", lambda device: limits.machine("cpu"))
    assert benchmark.main(["gpu", "--checks", *checks, "--output", str(tmp_path)]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    found = json.loads((tmp_path / "benchmark_gpu.json").read_text())["checks"]
    assert [check["state"] for check in found] == ["passed", "failed", "left out", "failed"]
    why = [check["why"].split(";")[0] for check in found]
    assert why[:2] + why[3:] == ["", "no memory", "the time was up"]
    assert why[2] == "no pairs: give --facades a folder with train/ and test/ of A|B pictures"
    assert found[0]["numbers"] == {"said": "6 passed"}
    assert "step: failed: no" in printed
    assert "not met" in printed


def test_checks_for_which_no_time_is_left_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.hardware, "default_device", lambda: "cuda")
    monkeypatch.setattr(gpu, "machine", lambda device: limits.machine("cpu"))
    measured = gpu.measure(GpuBenchmarkConfig(minutes=0.1))
    assert {check.state for check in measured.checks} == {"left out"}
    assert len(measured.checks) == 5
