"""Measure the scores of an evaluation: those of single images beside a plain loop, and those of two sets."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pipeline import images
from pipeline.benchmark.basis.checks import Checked, Checking, Keep, Row, most_mb, run_checks, run_process
from pipeline.benchmark.basis.limits import machine
from pipeline.benchmark.scores.config import ScoresBenchmarkConfig
from pipeline.cluster import hardware
from pipeline.engine.records.account import Batch
from pipeline.evaluate.measuring.scoring import Scorer, Scoring
from pipeline.scores.extractors.efficientnet import EfficientNetLite0
from pipeline.scores.extractors.extractor import describe_extractor
from pipeline.scores.sets.distances import KernelSums
from pipeline.scores.sets.neighbours import Neighbours
from pipeline.scores.sets.pairs import add_all_pairs
from pipeline.scores.sets.sampling import Sample, places
from pipeline.stores.tables.schema import SHARD, image_array
from pipeline.terminal import print_line

_SUBSETS, _SUBSET = 100, 1000


def measure(config: ScoresBenchmarkConfig, keep: Keep = lambda checked: None) -> Checked:
    """Score pairs and sets in processes of their own; call `keep` after each, with all so far."""
    config = config.resolved()
    parts: dict[str, Callable[[Mapping[str, Any]], list[Row]]] = {"pairs": _pair_rows, "sets": _set_rows}
    checks: dict[str, Checking] = {name: functools.partial(_check, name, rows, config) for name, rows in parts.items()}
    return run_checks(config, machine("cpu"), checks, keep)


def _check(
    name: str, rows: Callable[[Mapping[str, Any]], list[Row]], config: ScoresBenchmarkConfig, ends: float
) -> tuple[Sequence[Row], Mapping[str, Any]]:
    if name == "pairs":
        options = [config.pairs, config.side, config.repeats]
    else:
        options = [config.sample, config.features, config.repeats]
    command = [sys.executable, "-m", "pipeline.benchmark.scores.measure", name, *map(str, options)]
    numbers = json.loads(run_process(command, ends))
    return rows(numbers), numbers


def _pair_rows(numbers: Mapping[str, Any]) -> list[Row]:
    seconds = {name: median(each) for name, each in numbers["seconds"].items()}
    what = f"a pair at {numbers['side']}², a core"
    return [
        *(Row(f"{what}: {name}, s", f"{each:.3f}") for name, each in seconds.items()),
        Row(f"{what}: ours / torchmetrics, fp32", f"{seconds['ours'] / seconds['torchmetrics, fp32']:.2f}"),
        Row(f"{what}: ours / torchmetrics, fp64", f"{seconds['ours'] / seconds['torchmetrics, fp64']:.2f}"),
    ]


def _set_rows(numbers: Mapping[str, Any]) -> list[Row]:
    what = f"two sets of {numbers['sample']:,} × {numbers['features']:,}"
    return [
        Row(f"{what}: KID and neighbours, s", f"{median(numbers['seconds']):.1f}"),
        Row(f"{what}: largest process, MB", f"{numbers['mb']:,.0f}"),
    ]


def _pairs(count: int, side: int, repeats: int) -> dict[str, Any]:
    """Return seconds a pair of one core: by the stage that scores, and by a plain loop over the same files."""
    noise, keys = np.random.default_rng(0), [str(i) for i in range(count)]
    files = [
        [images.encode(_picture(noise, side), images.Encoding(codec="png")) for _ in keys] for _ in ("image", "target")
    ]
    table = pa.table(
        {"key": keys, "image": image_array(files[0], keys), "image_b": image_array(files[1], keys), SHARD: keys}
    )
    extractor = describe_extractor("efficientnet_lite0")
    scorer = Scorer(Scoring(image="image", target="image_b", extractor=extractor, target_features=True))
    batch = Batch(None, table)  # type: ignore[arg-type]  # no unit: the stage hands it on
    network = EfficientNetLite0()
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: scorer(batch),
        "torchmetrics, fp32": lambda: _plainly(files, network, torch.float32),
        "torchmetrics, fp64": lambda: _plainly(files, network, torch.float64),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with hardware.torch_threads(1):
        for turn in range(repeats + 1):
            for name, run in ways.items():
                began = time.perf_counter()
                run()
                if turn:  # the first one warms up
                    seconds[name].append((time.perf_counter() - began) / count)
    return {"side": side, "seconds": seconds}


def _picture(noise: np.random.Generator, side: int) -> np.ndarray:
    """Return an image that is smooth but for some noise, uint8 [side, side, 3]."""
    coarse = images.resize(noise.integers(0, 246, (8, 8, 3), np.uint8), side, side)
    return coarse + noise.integers(0, 10, coarse.shape, np.uint8)


@torch.inference_mode()
def _plainly(files: Sequence[Sequence[bytes]], network: torch.nn.Module, dtype: torch.dtype) -> None:
    """Score pairs as a loop over torchmetrics' functions does."""
    from torchmetrics.functional import image as metrics

    for pair in zip(*files, strict=True):
        pixels = [torch.from_numpy(images.decode(each).pixels.copy()).permute(2, 0, 1)[None] for each in pair]
        for each in pixels:
            network(each)
        one, two = (each.to(dtype) for each in pixels)
        (one - two).abs().mean()
        metrics.peak_signal_noise_ratio(one, two, data_range=255.0)
        metrics.structural_similarity_index_measure(one, two, data_range=255.0)
        if min(one.shape[2:]) >= 176:
            metrics.multiscale_structural_similarity_index_measure(one, two, data_range=255.0)


def _sets(count: int, features: int, repeats: int) -> dict[str, Any]:
    """Return seconds, on all cores, of the scores of two sets that compare all pairs."""
    real, other = (_sample(name, count, features) for name in ("real", "other"))
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        kernel = KernelSums(real, other, size=min(_SUBSET, count // 2), subsets=_SUBSETS)
        near = Neighbours(real, other)
        add_all_pairs(real, other, kernel, near)
        kernel.distance()
        seconds.append(time.perf_counter() - began)
    return {"sample": count, "features": features, "seconds": seconds, "mb": most_mb()}


def _sample(name: str, count: int, features: int) -> Sample:
    """Return features that are at least 0, as those of a network are, under keys of their own."""
    noise = np.random.default_rng(len(name))
    at = np.sort(places([f"{name}{i}" for i in range(count)], 0))
    return Sample(at, noise.standard_normal((count, features), np.float32).clip(0))


if __name__ == "__main__":
    _name, *_options = sys.argv[1:]
    print_line(json.dumps({"pairs": _pairs, "sets": _sets}[_name](*map(int, _options))))
