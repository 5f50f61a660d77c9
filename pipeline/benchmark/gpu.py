"""All checks that need a GPU, one after the other in one call."""

from __future__ import annotations

import functools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.benchmark.basis.checks import (
    ROOT,
    Checked,
    Checking,
    Keep,
    Row,
    run_benchmark,
    run_checks,
    run_module,
    run_process,
)
from pipeline.benchmark.basis.config import GpuBenchmarkConfig
from pipeline.benchmark.basis.limits import FASTEST_STEP, IMAGES_PER_S, machine, step_goal
from pipeline.cluster import hardware
from pipeline.errors import UserError


def measure(config: GpuBenchmarkConfig, keep: Keep = lambda checked: None) -> Checked:
    """Run the checks that `config` names; call `keep` after each, with all so far.

    Raises UserError where there is no GPU.
    """
    if hardware.default_device() != "cuda":
        raise UserError("it needs a GPU, and this machine has none; run it where there is one")
    about = machine("cuda")
    with tempfile.TemporaryDirectory(prefix="benchmark-gpu-") as scratch:
        checks: dict[str, Checking] = {
            name: functools.partial(_CHECKS[name], config, scratch) for name in config.checks
        }
        return run_checks(config, about, checks, keep)


def _tests(name: str, files: Sequence[str]) -> Callable[..., tuple[list[Row], Mapping[str, Any]]]:
    """Return a check that runs tests of the models on the GPU."""

    def check(config: GpuBenchmarkConfig, scratch: str, ends: float) -> tuple[list[Row], Mapping[str, Any]]:
        found = [str(ROOT / "tests" / "gan_models" / file) for file in files]
        if missing := [path for path in found if not os.path.exists(path)]:
            raise UserError(f"{missing[0]} is not there; run it in a checkout")
        # Plugins that a GPU host may lack are not asked for.
        options = ["-q", "-p", "no:cacheprovider", "--device", "cuda", "-m", "not long", "-W", "ignore"]
        said = run_process([sys.executable, "-m", "pytest", *options, *found], ends)
        return [Row(name, said)], {"summary": said}

    return check


def _translate(config: GpuBenchmarkConfig, scratch: str, ends: float) -> tuple[list[Row], Mapping[str, Any]]:
    options = ["--images", str(config.images), "--repeats", str(config.repeats)]
    found = run_benchmark("translate", options, scratch, ends)
    rate, name = found["pipeline"]["rate"], "pipeline / model alone"
    ratio, goal = found["ratios"][name]["median"], found["goals"][name]
    rows = [
        Row("translate: ResNet-9 at 256², JPEG Parquet to Parquet, img/s", f"{rate:.0f}", f"{IMAGES_PER_S:.0f}",
            rate >= IMAGES_PER_S),
        Row("  the model alone, img/s", f"{found['model']:.0f}"),
        Row(f"  {name}", f"{ratio:.2f}", f"{goal:.2f}", ratio >= goal),
        Row("  plain loop (batch 1, fp32, eager), img/s", f"{found['plain']:.0f}"),
    ]  # fmt: skip
    return rows, found


def _step(config: GpuBenchmarkConfig, scratch: str, ends: float) -> tuple[list[Row], Mapping[str, Any]]:
    rows, numbers, plain = list[Row](), dict[str, Any](), 0.0
    for batch, goal in ((1, step_goal("cuda", "", "")), (config.step_batch, FASTEST_STEP)):
        found = run_benchmark("step", ["--global_batch", str(batch), "--repeats", str(config.repeats)], scratch, ends)
        medians = {_form(form): statistics.median(s) for form, s in zip(found["forms"], found["seconds"], strict=True)}
        best = min(medians, key=lambda form: medians[form])
        plain = plain or medians["fp32"]
        ratio = batch * plain / medians[best]
        rows.append(
            Row(f"step of cyclegan.yaml, batch {batch}: {best}, an image against batch 1 in fp32, eager",
                f"{ratio:.1f} × ({1000 * medians[best]:.1f} ms)", f"{goal:.0f} ×", ratio >= goal)
        )  # fmt: skip
        rows += [Row(f"  {form}, ms a step", f"{1000 * seconds:.1f}") for form, seconds in medians.items()]
        numbers[str(batch)] = found
    return rows, numbers


def _facades(config: GpuBenchmarkConfig, scratch: str, ends: float) -> tuple[list[Row], Mapping[str, Any]]:
    """Train pix2pix on pairs, label map to photograph, translate the test pairs, and score them."""
    if not config.facades:
        raise UserError("no pairs: give --facades a folder with train/ and test/ of A|B pictures")
    parts, out = {part: f"{scratch}/{part}" for part in ("train", "test")}, os.path.abspath(config.output or scratch)
    pairs = os.path.abspath(config.facades)
    for part, store in parts.items():
        run_module("pack", ["--input", f"{pairs}/{part}", "--output", store, "--layout", "pairs", "--local"], ends)
    half = max(1, config.epochs // 2)
    began = time.monotonic()
    run_module(
        "train",
        ["--config", str(ROOT / "jobs" / "recipes" / "pix2pix_fast.yaml"), "--input", parts["train"], "--output",
         f"{scratch}/run", "--direction", "b_to_a", "--epochs", str(half), "--decay_epochs", str(half)],
        ends,
    )  # fmt: skip
    trained_s, steps = time.monotonic() - began, _last_step(f"{scratch}/run")
    run_module(
        "translate",
        ["--input", parts["test"], "--bundle", f"{scratch}/run/bundle", "--output", f"{out}/translated", "--size",
         "training", "--keep_source", "--local"],
        ends,
    )  # fmt: skip
    run_module(
        "evaluate", ["--input", f"{out}/translated", "--output", f"{out}/scores", "--train", parts["train"]], ends
    )
    scores = json.loads(Path(out, "scores", "scores.json").read_text())
    rows = [
        Row(f"pix2pix_fast.yaml on these pairs at 256², {2 * half} epochs, seconds in all", f"{trained_s:.0f}"),
        Row("  steps", str(steps)),
    ]
    return rows, {"seconds": trained_s, "steps": steps, "epochs": 2 * half, "scores": scores}


def _last_step(run: str) -> int:
    return int(json.loads(Path(run, "result.json").read_text())["steps"])


_CHECKS: Mapping[str, Callable[..., tuple[list[Row], Mapping[str, Any]]]] = {
    "translate": _translate,
    "step": _step,
    "facades": _facades,
    "goldens": _tests("goldens on the GPU", ("test_golden_networks.py", "test_golden_training.py")),
    "gradients": _tests("gradients on the GPU, in each layout, eager and compiled", ("test_gradients.py",)),
}


def _form(form: Mapping[str, Any]) -> str:
    return form["precision"] + (", compiled, as a CUDA graph" if form["compile"] else "")
