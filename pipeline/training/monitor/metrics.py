"""What a run measures: RUN/metrics.jsonl, one line a log step, and the same for people.

The file is replaced whole, as no object store can append. It is written at every checkpoint, before it, and else at
most every few seconds; a resumed run keeps the lines up to its checkpoint and goes on from there, so the file reads
as if nothing had happened.

JSON has no NaN and no infinity, and most readers refuse them: where a value is no finite number there is null in the
file, and NaN in what is read back. (Which of them it was, the line that ends a diverged run says.)
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline import storage

_MOST_OFTEN_S = 10.0


class Journal:
    """The metrics of a run, in memory and on storage. For one writer."""

    def __init__(self, run: str, *, step: int) -> None:
        """Go on after `step`: later lines of an earlier attempt are dropped."""
        self._url = storage.join(run, "metrics.jsonl")
        self._lines = [line for line in read_metrics(run) if line["step"] <= step]
        self._written_s, self._has_news = time.monotonic(), False

    def losses(self, count: int) -> list[Mapping[str, float]]:
        """Those of the last `count` lines, oldest first, the earlier starts' included."""
        return [line["losses"] for line in self._lines[-count:]]

    def add(self, line: Mapping[str, Any]) -> None:
        """Note `line`, and write if the last write is a while ago."""
        self._lines.append(dict(line))
        self._has_news = True
        if time.monotonic() - self._written_s > _MOST_OFTEN_S:
            self.write()

    def write(self) -> None:
        """Publish what has been noted."""
        self.snapshot()()

    def snapshot(self) -> Callable[[], None]:
        """What publishes the lines noted so far; may be called later, on another thread."""
        data = "".join(json.dumps(finite(line), allow_nan=False) + "\n" for line in self._lines).encode()
        self._written_s = time.monotonic()
        return lambda: storage.replace(self._url, data)

    def close(self) -> None:
        """Publish the lines of this start, if there are any; a snapshot that failed had some that nobody has seen."""
        if self._has_news:
            self.write()


class Pace:
    """How fast the steps go, and which share of the time the data took, since it was last read."""

    def __init__(self) -> None:
        self._began_s, self._waited_s, self._images = time.monotonic(), 0.0, 0

    @contextlib.contextmanager
    def waiting(self, *, images: int = 0) -> Iterator[None]:
        """Around a wait for data, of which a step takes `images`."""
        began_s = time.monotonic()
        yield
        self._waited_s += time.monotonic() - began_s
        self._images += images

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is no part of training."""
        began_s = time.monotonic()
        yield
        self._began_s += time.monotonic() - began_s

    def read(self) -> dict[str, float]:
        """`images_per_s` and `data_wait` (0 to 1), and begin anew."""
        elapsed_s = time.monotonic() - self._began_s
        found = {
            "images_per_s": round(self._images / elapsed_s, 3),
            "data_wait": round(self._waited_s / elapsed_s, 4),
        }
        self._began_s, self._waited_s, self._images = time.monotonic(), 0.0, 0
        return found


def read_metrics(run: str) -> list[dict[str, Any]]:
    """The lines of RUN/metrics.jsonl; empty where there is none."""
    data = storage.read_if_there(storage.join(run, "metrics.jsonl")) or b""
    return [with_nan(json.loads(line)) for line in data.splitlines()]


def finite(value: Any) -> Any:
    """`value`, which JSON can hold, with None for every number in it that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def with_nan(value: Any) -> Any:
    """What `finite` has made, read back: NaN for every None."""
    if isinstance(value, Mapping):
        return {key: with_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_nan(inner) for inner in value]
    return math.nan if value is None else value


def describe(line: Mapping[str, Any], total_steps: int) -> str:
    """One line for people."""
    losses = "  ".join(f"{name} {value:.4g}" for name, value in line["losses"].items())
    scores = describe_scores(line.get("validation", {}))
    return (
        f"step {line['step']}/{total_steps}  epoch {line['epoch']}  {losses}  lr {line['learning_rate']:.3g}  "
        f"{line['images_per_s']:.1f} images/s  data wait {line['data_wait']:.0%}"
        + (f"  validation: {scores}" if scores else "")
    )


def describe_scores(scores: Mapping[str, float]) -> str:
    """What a validation found, for people."""
    return "  ".join(f"{name} {value:.4g}" for name, value in scores.items())


_UNDER = {"losses": "loss", "gradient_norms": "gradient_norm"}


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line by flat names, as dashboards want them: `loss/g_l1`, `speed/images_per_s`, …"""
    found: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            found.update({f"{_UNDER.get(name, name)}/{key}": float(inner) for key, inner in value.items()})
        elif name in ("images_per_s", "data_wait"):
            found[f"speed/{name}"] = float(value)
        elif name != "step":
            found[name] = float(value)
    return found
