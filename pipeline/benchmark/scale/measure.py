"""Measure planning, resuming, finishing and verifying of corpora of several sizes, against the bounds for each."""

from __future__ import annotations

import functools
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.benchmark.basis.checks import Checked, Checking, Keep, Row, run_checks, run_process
from pipeline.benchmark.basis.config import ScaleBenchmarkConfig
from pipeline.benchmark.basis.limits import machine
from pipeline.benchmark.scale import corpus


class Bound(NamedTuple):
    """Most that a step may take."""

    seconds: float
    mb: float


_DRIVER = Bound(60.0, 1000.0)
_LARGE = Bound(600.0, 1000.0)
"""Bound of a plan beyond 100 million rows."""
_WORKER_MB = 200.0
"""Memory that a worker may take for the plan, in megabytes, besides what the process takes anyway."""
_PLANNED = ("plan", "resume", "worker")
_ALL = (*_PLANNED, "finish", "again", "verify")
_UNBOUNDED_TIME = ("verify",)
"""Steps that read all data, and whose time is that of the disk."""
_LARGEST_ROWS = 100_000_000


def measure(config: ScaleBenchmarkConfig, keep: Keep = lambda checked: None) -> Checked:
    """Measure each size that `config` names, in a folder below TMPDIR that is removed afterwards."""
    config, checks = config.resolved(), dict[str, Checking]()
    for rows in config.rows:
        checks[f"{rows:,} rows"] = functools.partial(_shards, rows, _ALL)
    for rows in config.planned_rows:
        checks[f"{rows:,} rows, planned"] = functools.partial(_shards, rows, _PLANNED)
    for count in config.files:
        checks[f"{count:,} files"] = functools.partial(_files, count)
    return run_checks(config, machine("cpu"), checks, keep)


def _shards(rows: int, steps: Sequence[str], ends: float) -> tuple[list[Row], Mapping[str, Any]]:
    with _Ground() as ground:
        corpus.write_shards(ground.source, rows)
        return _steps(ground, f"{rows:,} rows", steps, _DRIVER if rows <= _LARGEST_ROWS else _LARGE, ends)


def _files(count: int, ends: float) -> tuple[list[Row], Mapping[str, Any]]:
    with _Ground() as ground:
        corpus.write_files(ground.source, count)
        return _steps(ground, f"{count:,} files", _PLANNED, _DRIVER, ends, listed=True)


class _Ground:
    """Folder of a corpus and an output, removed at its end."""

    def __enter__(self) -> _Ground:
        self.folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
        self.source, self.output = self.folder / "in", self.folder / "out"
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder)


def _steps(
    ground: _Ground, what: str, steps: Sequence[str], bound: Bound, ends: float, *, listed: bool = False
) -> tuple[list[Row], Mapping[str, Any]]:
    """Do the steps in turn. Where the source is to be `listed`, that is left out of their seconds, and shown."""
    rows, numbers = list[Row](), dict[str, Any]()
    for step in steps:
        if step == "finish":
            _run("corpus", ground, (), ends)
        found = numbers[step] = json.loads(_run("steps", ground, (step,), ends))
        if step == "worker":
            rows.append(_row(f"{what}: plan in a worker, MB", found["mb"] - found["before_mb"], _WORKER_MB))
            continue
        opening_s = found["opening_s"] if listed else 0.0
        if listed:
            rows.append(_row(f"{what}: list, s", opening_s))
        most_s = None if step in _UNBOUNDED_TIME else bound.seconds
        rows.append(_row(f"{what}: {step}, s", found["seconds"] - opening_s, most_s))
        rows.append(_row(f"{what}: {step}, MB", found["mb"], bound.mb))
    return rows, numbers


def _row(what: str, found: float, most: float | None = None) -> Row:
    shown = f"{found:.1f}" if found < 100 else f"{found:.0f}"
    return Row(what, shown) if most is None else Row(what, shown, f"{most:g} at most", found <= most)


def _run(module: str, ground: _Ground, words: tuple[str, ...], ends: float) -> str:
    command = [sys.executable, "-m", f"pipeline.benchmark.scale.{module}", *words]
    return run_process([*command, str(ground.source), str(ground.output)], ends)
