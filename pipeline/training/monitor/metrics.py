"""Metrics of a run: RUN/metrics.jsonl, one line for each log step, and the same for people.

The file is replaced as a whole, as object stores cannot append. It is written before every checkpoint, and otherwise at
most every few seconds. A resumed run keeps the lines up to its checkpoint and continues from there, so the file reads
as if the run had not been interrupted.

JSON has no NaN and no infinity, and most readers refuse them. A value that is not finite is therefore null in the file,
and NaN when it is read back. (The line that ends a diverged run says which of them it was.)
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline import storage

_MIN_INTERVAL_S = 10.0


class Journal:
    """Metrics of a run, in memory and on storage. For one writer."""

    def __init__(self, run: str, *, step: int) -> None:
        """Continue after `step`: later lines of an earlier attempt are dropped."""
        self._url = storage.join(run, "metrics.jsonl")
        self._lines = [line for line in read_metrics(run) if line["step"] <= step]
        self._written_s, self._has_new_lines = time.monotonic(), False

    def losses(self, count: int) -> list[Mapping[str, float]]:
        """Return the losses of the last `count` lines, oldest first, including those of earlier starts."""
        return [line["losses"] for line in self._lines[-count:]]

    def add(self, line: Mapping[str, Any]) -> None:
        """Add `line`, and write the file if the last write is a while ago."""
        self._lines.append(dict(line))
        self._has_new_lines = True
        if time.monotonic() - self._written_s > _MIN_INTERVAL_S:
            self.write()

    def write(self) -> None:
        """Publish the lines added so far."""
        self.snapshot()()

    def snapshot(self) -> Callable[[], None]:
        """Return a function that publishes the lines added so far; it may be called later, on another thread."""
        data = "".join(json.dumps(finite(line), allow_nan=False) + "\n" for line in self._lines).encode()
        self._written_s = time.monotonic()
        return lambda: storage.replace(self._url, data)

    def close(self) -> None:
        """Publish the lines if this start added any: a snapshot that failed may not have published them."""
        if self._has_new_lines:
            self.write()


class Pace:
    """Speed of the steps, and the share of time spent waiting for data, since the last reading."""

    def __init__(self) -> None:
        self._began_s, self._waited_s, self._images = time.monotonic(), 0.0, 0

    @contextlib.contextmanager
    def waiting(self, *, images: int = 0) -> Iterator[None]:
        """Count the block as a wait for data; the step takes `images` images from it."""
        began_s = time.monotonic()
        yield
        self._waited_s += time.monotonic() - began_s
        self._images += images

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the block's time out, as it is not part of training."""
        began_s = time.monotonic()
        yield
        self._began_s += time.monotonic() - began_s

    def read(self) -> dict[str, float]:
        """Return `images_per_s` and `data_wait` (0 to 1), and start counting anew."""
        elapsed_s = time.monotonic() - self._began_s
        found = {
            "images_per_s": round(self._images / elapsed_s, 3),
            "data_wait": round(self._waited_s / elapsed_s, 4),
        }
        self._began_s, self._waited_s, self._images = time.monotonic(), 0.0, 0
        return found


def read_metrics(run: str) -> list[dict[str, Any]]:
    """Return the lines of RUN/metrics.jsonl; empty where there is no such file."""
    data = storage.read_if_there(storage.join(run, "metrics.jsonl")) or b""
    return [with_nan(json.loads(line)) for line in data.splitlines()]


def finite(value: Any) -> Any:
    """Return `value`, a JSON-like value, with None for every number in it that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def with_nan(value: Any) -> Any:
    """Return the result of `finite`, read back, with NaN for every None."""
    if isinstance(value, Mapping):
        return {key: with_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_nan(inner) for inner in value]
    return math.nan if value is None else value


def describe(line: Mapping[str, Any], total_steps: int) -> str:
    """Return a readable form of a line of metrics."""
    losses = "  ".join(f"{name} {value:.4g}" for name, value in line["losses"].items())
    scores = describe_scores(line.get("validation", {}))
    return (
        f"step {line['step']}/{total_steps}  epoch {line['epoch']}  {losses}  lr {line['learning_rate']:.3g}  "
        f"{line['images_per_s']:.1f} images/s  data wait {line['data_wait']:.0%}"
        + (f"  validation: {scores}" if scores else "")
    )


def describe_scores(scores: Mapping[str, float]) -> str:
    """Return a readable form of a validation's scores."""
    return "  ".join(f"{name} {value:.4g}" for name, value in scores.items())


_GROUP_NAMES = {"losses": "loss", "gradient_norms": "gradient_norm"}


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line by flat names, as dashboards need them: `loss/g_l1`, `speed/images_per_s`, …"""
    found: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            found.update({f"{_GROUP_NAMES.get(name, name)}/{key}": float(inner) for key, inner in value.items()})
        elif name in ("images_per_s", "data_wait"):
            found[f"speed/{name}"] = float(value)
        elif name != "step":
            found[name] = float(value)
    return found
