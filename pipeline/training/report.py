"""Report of a training run on one page: RUN/report.html, with its curves and its last samples."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from pipeline import command
from pipeline.recipe import flat
from pipeline.report.content import Chart, Gallery, GalleryRow, Points, Report
from pipeline.report.html import render_report
from pipeline.scores.table import BACK, Metric, metric_named
from pipeline.training.config.train import TrainConfig
from pipeline.training.record import TrainResult
from pipeline.training.validation.validator import best_step

Lines = Sequence[Mapping[str, Any]]

_LOGARITHMIC = 30
"""Ratio of the greatest to the least value, from which a scale is logarithmic."""
_ALIKE = 8
"""Ratio of the sizes of two series, from which each has a chart of its own."""

_LOSSES = (
    ("d_", "Discriminator losses"),
    ("g_l1", "L1 loss"),
    ("g_", "Adversarial losses of the generators"),
    ("cycle_", "Cycle-consistency losses"),
    ("identity_", "Identity losses"),
)
"""Titles of losses by the beginning of their name; the first that fits counts."""


def training_report(
    config: TrainConfig,
    result: TrainResult,
    lines: Lines,
    samples_png: bytes | None,
    *,
    keys: Sequence[str] = (),
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """Return the HTML page of a finished run with these lines of metrics.

    `samples_png` shows rows of crops (input, translation and, for pairs, target) of images with these `keys`;
    `provenance` is that of the bundle.
    """
    return render_report(
        Report(
            title=f"Training of {'pix2pix' if config.objective == 'pix2pix' else 'CycleGAN'}",
            status="complete",
            subtitle=config.output,
            facts=list(_facts(config, result, lines)),
            galleries=_galleries(config, samples_png, keys),
            charts=[
                *_losses(lines),
                *_validation(lines),
                *_charts(lines, "gradient_norms", "Gradient norms", "L2 norm", "Optimisation"),
                *_single(lines, "learning_rate", "Learning rate", "learning rate", "Optimisation"),
                *_single(lines, "images_per_s", "Throughput", "images/s", "Speed"),
                *_single(lines, "data_wait", "Waiting for data", "share of the time (%)", "Speed", times=100),
            ],
            provenance=list(_provenance(result, provenance or {})),
            settings=[(name, str(value)) for name, value in flat(config.recipe()).items()],
            command=command.line(),
            quarantine_total=None,
        )
    )


def _facts(config: TrainConfig, result: TrainResult, lines: Lines) -> Iterator[tuple[str, str]]:
    yield "steps", f"{result.steps:,}"
    yield "epochs", f"{lines[-1]['epoch']:,}" if lines and "epoch" in lines[-1] else "–"
    yield "images in a step", f"{config.global_batch}"
    yield "direction", config.direction.replace("_", " ")
    yield "crop", f"{config.crop_size} × {config.crop_size} pixels"
    if speeds := [line["images_per_s"] for line in lines if "images_per_s" in line]:
        yield "median throughput", f"{statistics.median(speeds):.3g} images/s"
    best = best_step(result.validation, config.validation.metric)
    if best is not None:
        yield "best validation", f"step {best:,}"


def _galleries(config: TrainConfig, samples_png: bytes | None, keys: Sequence[str]) -> list[Gallery]:
    """Return the samples of the bundle, cut into their pictures."""
    if samples_png is None:
        return []
    side, pixels = config.crop_size, np.asarray(Image.open(io.BytesIO(samples_png)).convert("RGB"))
    heads = ["input", "translation", "target"][: pixels.shape[1] // side]
    rows = []
    for i in range(pixels.shape[0] // side):
        row = pixels[i * side : (i + 1) * side]
        pictures = [row[:, j * side : (j + 1) * side] for j in range(len(heads))]
        rows.append(GalleryRow(caption=keys[i] if i < len(keys) else f"training image {i + 1}", pictures=pictures))
    title = f"The first {len(rows)} training images, by the generator of the last step"
    return [Gallery(title=title, heads=heads, rows=rows)] if rows else []


def _losses(lines: Lines) -> Iterator[Chart]:
    """Yield a chart for each kind of loss, and for each that is much larger or smaller than others of its kind."""
    found = _series(lines, "losses")
    left = dict(found)
    for beginning, title in [*_LOSSES, ("", "Other losses")]:
        some = {name: left.pop(name) for name in list(left) if name.startswith(beginning)}
        yield from _alike(some, title, "loss (weighted, no unit)", "Losses")


def _validation(lines: Lines) -> Iterator[Chart]:
    """Yield a chart for each metric; the two directions of one share it where they are of like size."""
    found = _series(lines, "validation")
    for name in list(found):
        if name in found:
            metric, both = metric_named(name), {name, f"{name.removesuffix(BACK)}{BACK}"}
            some = {each: found.pop(each) for each in list(found) if each in both}
            title = metric.title if metric else name
            yield from _alike(some, title, _axis(metric, name), "Validation on held-out images")


def _axis(metric: Metric | None, name: str) -> str:
    """Return name, unit and direction of a metric."""
    if metric is None:
        return name
    better = f"{'higher' if metric.higher_is_better else 'lower'} is better"
    return f"{metric.title} ({', '.join(filter(None, [metric.unit.strip(), better]))})"


def _charts(lines: Lines, kind: str, title: str, y_title: str, section: str) -> Iterator[Chart]:
    yield from _alike(_series(lines, kind), title, y_title, section)


def _single(lines: Lines, name: str, title: str, y_title: str, section: str, *, times: float = 1) -> Iterator[Chart]:
    points = [(line["step"], line[name] * times) for line in lines if name in line]
    if points:
        yield _chart({name: points}, title, y_title, section)


def _series(lines: Lines, kind: str) -> dict[str, Points]:
    """Return the values under `kind`, each over its steps."""
    names = dict.fromkeys(name for line in lines for name in line.get(kind, {}))
    return {name: [(line["step"], line[kind][name]) for line in lines if name in line.get(kind, {})] for name in names}


def _alike(series: Mapping[str, Points], title: str, y_title: str, section: str) -> Iterator[Chart]:
    """Yield charts of series of like size each: by the median of their magnitudes."""
    sizes = {name: _size(points) for name, points in series.items()}
    groups = list[dict[str, Points]]()
    least = 0.0
    for name in sorted(series, key=lambda name: sizes[name]):
        if not groups or sizes[name] > _ALIKE * least:
            groups.append({})
            least = sizes[name]
        groups[-1][name] = series[name]
    for group in groups:
        in_order = {name: points for name, points in series.items() if name in group}
        named = title if len(groups) == 1 and (len(group) > 1 or not section) else f"{title}: {', '.join(in_order)}"
        yield _chart(in_order, named, y_title, section)


def _size(points: Points) -> float:
    return statistics.median([abs(y) for _, y in points if math.isfinite(y)] or [0.0])


def _chart(series: Mapping[str, Points], title: str, y_title: str, section: str) -> Chart:
    values = [y for points in series.values() for _, y in points if math.isfinite(y)]
    log_y = bool(values) and min(values) > 0 and max(values) > _LOGARITHMIC * min(values)
    scale = ", logarithmic" if log_y else ""
    return Chart(
        title=title,
        kind="line",
        x_title="step",
        y_title=f"{y_title}{scale}",
        series=series,
        log_y=log_y,
        section=section,
    )


def _provenance(result: TrainResult, said: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield where the model comes from, as its bundle says."""
    yield "model bundle", result.bundle
    if result.best_bundle:
        yield "best by validation", result.best_bundle
    data = said.get("data", {})
    if data:
        counts = data["images"]
        if data["target"] == data["source"]:
            yield "images", f"{data['source']} ({counts[0]:,} of A, {counts[1]:,} of B)"
        else:
            yield "images A", f"{data['source']} ({counts[0]:,})"
            yield "images B", f"{data['target']} ({counts[1]:,})"
        if data.get("sha256"):
            yield "fingerprint of the images", data["sha256"]
    for name, fact in (("began with", "start"), ("arithmetic", "arithmetic"), ("versions", "versions")):
        if said.get(fact):
            yield name, ", ".join(f"{key} {value}" for key, value in flat(said[fact]).items())
