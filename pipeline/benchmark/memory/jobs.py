"""Jobs over each corpus, every process of them watched, against the bound that `limits.decoded_mb` sets."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gan_models import GeneratorConfig
from pipeline.benchmark.basis import inputs
from pipeline.benchmark.basis.checks import (
    ROOT,
    Checked,
    CheckFailedError,
    Checking,
    Keep,
    Row,
    own_environment,
    run_checks,
    run_module,
)
from pipeline.benchmark.basis.limits import machine
from pipeline.benchmark.memory.config import CorpusName, JobName, MemoryBenchmarkConfig
from pipeline.benchmark.memory.corpora import Corpus, write_corpus
from pipeline.benchmark.memory.processes import Seen, run_watched
from pipeline.engine.records.limits import Limits

_SIDE = 256
_LONGEST_S = 600.0
"""Seconds that a job may take for one image."""
_LOAD_SIZE = 286
"""Side of the images that a training holds, as in its recipe."""

Command = Sequence[str]


def measure(config: MemoryBenchmarkConfig, keep: Keep = lambda checked: None) -> Checked:
    """Run the jobs over the corpora that `config` names; call `keep` after each corpus, with all so far."""
    about = machine("cpu")
    architecture = GeneratorConfig(kind="resnet", width=config.width, depth=config.blocks, norm="instance")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        inputs.write_bundle(f"{scratch}/bundle", architecture, _SIDE)
        inputs.write_pictures(f"{scratch}/small", 1, _SIDE)
        alone = functools.cache(lambda job, store: _watched(job, Path(scratch), store, time.monotonic() + _LONGEST_S))
        checks: dict[str, Checking] = {
            name: functools.partial(_check, name, config, Path(scratch), alone) for name in config.corpora
        }
        return run_checks(config, about, checks, keep)


def _check(
    name: CorpusName, config: MemoryBenchmarkConfig, scratch: Path, alone: Callable[[JobName, str], Seen], ends: float
) -> tuple[list[Row], Mapping[str, Any]]:
    corpus = write_corpus(name, scratch / name, quick=config.quick)
    rows, numbers = list[Row](), dict[str, Any]()
    for job in config.jobs:
        # Only where an image keeps its size does the model take more for a larger one.
        one = alone(job, corpus.one if job == "native" else str(scratch / "small"))
        seen = _watched(job, scratch, corpus.url, ends)
        largest, peak = max(seen.peaks.items(), key=lambda each: each[1].resident)
        bound = Limits().process_bytes + max(each.resident for each in one.peaks.values()) + _held(job, corpus)
        goal = f"{bound / 1e6:,.0f} at most"
        found = f"{peak.resident / 1e6:,.0f} ({largest}), all {seen.whole / 1e6:,.0f}"
        rows.append(Row(f"{job} over {name}, MB", found, goal, peak.resident <= bound))
        figures = {"alone": asdict(one), "all": asdict(seen)}
        for each in figures.values():
            del each["said"]
        numbers[job] = {"bound": bound} | figures
    return rows, numbers


def _held(job: JobName, corpus: Corpus) -> int:
    """Return the bytes of the set that a training holds in memory, as it is asked to, on both sides."""
    return 2 * corpus.images * _LOAD_SIZE**2 * 3 if job == "train" else 0


def _watched(job: JobName, scratch: Path, store: str, ends: float) -> Seen:
    """Run a job over a store, after what it builds on."""
    commands = _COMMANDS[job](store, f"{scratch}/{job}-{Path(store).name}", scratch)
    for command in commands[:-1]:
        run_module(command[0], command[1:], ends)
    name, *options = commands[-1]
    try:
        seen = run_watched(
            [sys.executable, "-m", f"jobs.{name}", *options], cwd=str(ROOT), env=own_environment(),
            within_s=max(1.0, ends - time.monotonic()),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CheckFailedError(f"{job}: the time was up") from None
    if seen.code:
        raise CheckFailedError(f"{job} ended with {seen.code}: {seen.said[-300:]}")
    return seen


def _pack(store: str, output: str, scratch: Path) -> list[Command]:
    return [["pack", "--input", store, "--output", output]]


def _translate(size: str, store: str, output: str, scratch: Path) -> list[Command]:
    return [["translate", "--input", store, "--output", output, "--bundle", f"{scratch}/bundle", "--size", size]]


def _augment(store: str, output: str, scratch: Path) -> list[Command]:
    config = Path(f"{output}.yaml")
    config.write_text(
        json.dumps(
            {"sources": {"all": store}, "translators": {"one": {"bundle": f"{scratch}/bundle"}}, "size": "training"}
        )
    )  # JSON is YAML, too
    return [["augment", "--config", str(config), "--output", output]]


def _evaluate(store: str, output: str, scratch: Path) -> list[Command]:
    translated = f"{output}-translated"
    (translate,) = _translate("training", store, translated, scratch)
    scores = ["evaluate", "--input", translated, "--target_column", "source_image", "--output", output]
    return [[*translate, "--keep_source"], scores]


def _train(streaming: str, store: str, output: str, scratch: Path) -> list[Command]:
    sides = ["--input", store, "--input_b", store, "--output", output]
    small = ["--generator.width", "4", "--generator.depth", "1", "--discriminator.width", "4", "--steps", "20"]
    return [["train", "--config", "jobs/recipes/cyclegan.yaml", *sides, *small, "--streaming", streaming]]


_COMMANDS: Mapping[JobName, Callable[[str, str, Path], list[Command]]] = {
    "pack": _pack,
    "native": functools.partial(_translate, "native"),
    "training": functools.partial(_translate, "training"),
    "original": functools.partial(_translate, "original"),
    "augment": _augment,
    "evaluate": _evaluate,
    "train": functools.partial(_train, "memory"),
    "train_streamed": functools.partial(_train, "stream"),
}
"""Command lines for a store, an output and a folder for what is needed besides; the last one is watched."""
