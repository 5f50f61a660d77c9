"""All checks that need a GPU, one after the other in one call, each in a process of its own within the time there is.

A check that fails, or for which no time is left, does not keep the others from running, and is shown as such.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline.benchmark.config import GpuBenchmarkConfig
from pipeline.benchmark.limits import FASTEST_STEP, IMAGES_PER_S, machine, step_goal
from pipeline.cluster import hardware
from pipeline.errors import UserError

log = logging.getLogger("transdomain")

_ROOT = Path(__file__).parents[2]
_GRACE_S = 10.0
_LEAST_S = 20.0
"""Seconds left below which no further check is begun."""


class Row(NamedTuple):
    """Line of the table."""

    what: str
    found: str
    goal: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Check:
    """Outcome of one check."""

    name: str
    state: Literal["passed", "failed", "left out"]
    seconds: float
    rows: Sequence[Row] = ()
    why: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MeasuredGpu:
    """Outcomes of all checks, in order."""

    config: GpuBenchmarkConfig
    machine: Mapping[str, Any]
    checks: Sequence[Check]


class _FailedError(Exception):
    """A process of a check that failed; its message is the last line that it printed."""


def measure(config: GpuBenchmarkConfig, keep: Callable[[MeasuredGpu], object] = lambda measured: None) -> MeasuredGpu:
    """Run the checks that `config` names; call `keep` after each, with all so far.

    Raises UserError where there is no GPU.
    """
    if hardware.default_device() != "cuda":
        raise UserError("it needs a GPU, and this machine has none; run it where there is one")
    about, ends = machine("cuda"), time.monotonic() + 60 * config.minutes
    checks = list[Check]()
    with tempfile.TemporaryDirectory(prefix="benchmark-gpu-") as scratch:
        for name in config.checks:
            log.info("check %s, with %.0f s left", name, ends - time.monotonic())
            checks.append(_checked(name, config, scratch, ends))
            log.info("%s", _line(checks[-1]))
            keep(MeasuredGpu(config, about, checks))
    return MeasuredGpu(config, about, checks)


def _line(check: Check) -> str:
    found = [f"{row.what.strip()}: {row.found}" for row in check.rows] or [check.why]
    return f"{check.name}: {check.state} in {check.seconds:.0f} s: {'; '.join(found)}"


def _checked(name: str, config: GpuBenchmarkConfig, scratch: str, ends: float) -> Check:
    began = time.monotonic()
    if ends - began < _LEAST_S:
        return Check(name, "left out", 0.0, why="no time was left; raise --minutes")
    try:
        rows, numbers = _CHECKS[name](config, scratch, ends)
    except (_FailedError, UserError) as error:
        state: Literal["failed", "left out"] = "failed" if isinstance(error, _FailedError) else "left out"
        return Check(name, state, time.monotonic() - began, why=str(error))
    return Check(name, "passed", time.monotonic() - began, rows, numbers=numbers)


def _tests(name: str, files: Sequence[str]) -> Callable[..., tuple[list[Row], Mapping[str, Any]]]:
    """Return a check that runs tests of the models on the GPU."""

    def check(config: GpuBenchmarkConfig, scratch: str, ends: float) -> tuple[list[Row], Mapping[str, Any]]:
        found = [str(_ROOT / "tests" / "gan_models" / file) for file in files]
        if missing := [path for path in found if not os.path.exists(path)]:
            raise UserError(f"{missing[0]} is not there; run it in a checkout")
        # Plugins that a GPU host may lack are not asked for.
        options = ["-q", "-p", "no:cacheprovider", "--device", "cuda", "-m", "not long", "-W", "ignore"]
        said = _run([sys.executable, "-m", "pytest", *options, *found], ends)
        return [Row(name, said)], {"summary": said}

    return check


def _translate(config: GpuBenchmarkConfig, scratch: str, ends: float) -> tuple[list[Row], Mapping[str, Any]]:
    options = ["--images", str(config.images), "--repeats", str(config.repeats)]
    found = _benchmark("translate", options, scratch, ends)
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
        found = _benchmark("step", ["--global_batch", str(batch), "--repeats", str(config.repeats)], scratch, ends)
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
        _job("pack", ["--input", f"{pairs}/{part}", "--output", store, "--layout", "pairs", "--local"], ends)
    half = max(1, config.epochs // 2)
    began = time.monotonic()
    _job(
        "train",
        ["--config", str(_ROOT / "jobs" / "recipes" / "pix2pix_fast.yaml"), "--input", parts["train"], "--output",
         f"{scratch}/run", "--direction", "b_to_a", "--epochs", str(half), "--decay_epochs", str(half)],
        ends,
    )  # fmt: skip
    trained_s, steps = time.monotonic() - began, _last_step(f"{scratch}/run")
    _job(
        "translate",
        ["--input", parts["test"], "--bundle", f"{scratch}/run/bundle", "--output", f"{out}/translated", "--size",
         "training", "--keep_source", "--local"],
        ends,
    )  # fmt: skip
    _job("evaluate", ["--input", f"{out}/translated", "--output", f"{out}/scores", "--train", parts["train"]], ends)
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


def _benchmark(name: str, options: Sequence[str], scratch: str, ends: float) -> Any:
    _job("benchmark", [name, *options, "--output", scratch], ends)
    return json.loads(Path(scratch, f"benchmark_{name}.json").read_text())


def _job(name: str, options: Sequence[str], ends: float) -> None:
    _run([sys.executable, "-m", f"jobs.{name}", *options], ends)


def _run(command: Sequence[str], ends: float) -> str:
    """Run a process to its end; return the last line that it printed. Raises _FailedError, also where time is up."""
    process = subprocess.Popen(
        command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        said, _ = process.communicate(timeout=max(1.0, ends - time.monotonic()))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)  # a job then ends its Ray
        try:
            process.communicate(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        raise _FailedError("the time was up; raise --minutes") from None
    lines = [line for line in map(str.strip, said.splitlines()) if line]
    for line in lines:
        log.debug("%s", line)
    last = re.sub(r"=+ | =+", "", lines[-1]) if lines else ""
    if process.returncode:
        raise _FailedError(" / ".join(lines[-3:]) or f"it ended with {process.returncode}")
    return last


def _form(form: Mapping[str, Any]) -> str:
    return form["precision"] + (", compiled, as a CUDA graph" if form["compile"] else "")
