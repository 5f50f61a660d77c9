"""Report of a training run on one page: RUN/report.html, with its curves and its last samples."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pipeline import command
from pipeline.images.basis import raster
from pipeline.recipe import flat
from pipeline.report.content import Chart, Gallery, GalleryRow, Points, Report
from pipeline.report.html import render_report
from pipeline.scores.table import BACK, Metric, metric_named
from pipeline.training.checkpoints.samples import Samples
from pipeline.training.config.train import TrainConfig
from pipeline.training.record import TrainResult
from pipeline.training.validation.validator import best_step

Lines = Sequence[Mapping[str, Any]]

_LOGARITHMIC = 30
"""Ratio of the greatest to the least value, from which a scale is logarithmic."""
_CYCLE = "The cycle is the translation, translated back by the other generator: the nearer to the input, the better."
_ALIKE = 8
"""Ratio of the sizes of two series, from which each has a chart of its own."""

_LOSSES = (
    ("d_", "Discriminator losses", "A is the source side, B the target side. d_A judges images of A, d_B those of B."),
    ("g_l1", "L1 loss", ""),
    ("g_", "Adversarial losses of the generators", "g_AB translates A into B, g_BA translates B into A."),
    ("cycle_", "Cycle-consistency losses", "cycle_A is between images of A and their way to B and back."),
    ("identity_", "Identity losses", "identity_A is between images of A and what the generator into A makes of them."),
    ("", "Other losses", ""),
)
"""Titles of losses by the beginning of their name, the first that fits; and what the names of a CycleGAN's mean."""


def training_report(
    config: TrainConfig,
    result: TrainResult,
    lines: Lines,
    samples: Sequence[Samples],
    *,
    keys: Mapping[str, Sequence[str]] = MappingProxyType({}),
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """Return the HTML page of a finished run with these lines of metrics.

    `samples` are pictures of each direction that was learnt, of images with these `keys` of sides A and B; `provenance`
    is that of the bundle.
    """
    return render_report(
        Report(
            title=f"Training of {'pix2pix' if config.objective == 'pix2pix' else 'CycleGAN'}",
            status="complete",
            subtitle=config.output,
            facts=list(_facts(config, result, lines)),
            galleries=list(_galleries(samples, keys)),
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


def _galleries(samples: Sequence[Samples], keys: Mapping[str, Sequence[str]]) -> Iterator[Gallery]:
    """Yield the pictures of each direction."""
    for learned, columns in samples:
        shown, keyed = [raster.shown(column) for column in columns.values()], keys.get(learned.source, ())
        rows = [
            GalleryRow(caption=keyed[i] if i < len(keyed) else f"image {i + 1}", pictures=pictures)
            for i, pictures in enumerate(zip(*shown, strict=True))
        ]
        title = f"The first {len(rows)} training images, by the generator of the last step"
        if len(samples) > 1:
            title = f"{learned.direction.replace('_', ' ')}: {title[0].lower()}{title[1:]}"
        note = _CYCLE if "cycle" in columns and learned is samples[-1].learned else ""
        yield Gallery(title=title, heads=list(columns), rows=rows, note=note)


def _losses(lines: Lines) -> Iterator[Chart]:
    """Yield a chart for each kind of loss, and for each that is much larger or smaller than others of its kind."""
    found = _series(lines, "losses")
    left = dict(found)
    for beginning, title, words in _LOSSES:
        some = {name: left.pop(name) for name in list(left) if name.startswith(beginning)}
        note = words if any(f"{name} " in words for name in some) else ""
        yield from _alike(some, title, "weighted loss", "Losses", note)


def _validation(lines: Lines) -> Iterator[Chart]:
    """Yield a chart for each metric; the two directions of one share it where they are of like size."""
    found = _series(lines, "validation")
    for name in list(found):
        if name in found:
            metric, both = metric_named(name), {name, f"{name.removesuffix(BACK)}{BACK}"}
            some = {each: found.pop(each) for each in list(found) if each in both}
            title = metric.title if metric else name
            note = f"Names that end in {BACK} are of the other direction." if len(some) > 1 else ""
            yield from _alike(some, title, _axis(metric, name), "Validation on held-out images", note)


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


def _alike(series: Mapping[str, Points], title: str, y_title: str, section: str, note: str = "") -> Iterator[Chart]:
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
        yield _chart(in_order, named, y_title, section, note)


def _size(points: Points) -> float:
    return statistics.median([abs(y) for _, y in points if math.isfinite(y)] or [0.0])


def _chart(series: Mapping[str, Points], title: str, y_title: str, section: str, note: str = "") -> Chart:
    values = [y for points in series.values() for _, y in points if math.isfinite(y)]
    log_y = bool(values) and min(values) > 0 and max(values) > _LOGARITHMIC * min(values)
    scale = " (log scale)" if log_y else ""
    return Chart(
        title=title,
        kind="line",
        x_title="step",
        y_title=f"{y_title}{scale}",
        series=series,
        log_y=log_y,
        section=section,
        note=note,
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
