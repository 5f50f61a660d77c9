"""Score a translated store against its targets, next to baselines without a trained model."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from gan_models import build_generator
from pipeline import images, storage
from pipeline.cluster import hardware
from pipeline.engine.records.layout import Output
from pipeline.errors import UserError, printable
from pipeline.evaluate.config import EvaluateConfig
from pipeline.models.arithmetic import exact
from pipeline.models.bundles import open_bundle
from pipeline.models.translator import Translator
from pipeline.report.contact_sheet import contact_sheet, fitted
from pipeline.report.content import Report, Table
from pipeline.report.html import render_report
from pipeline.report.quarantine import MOST_LINES, quarantine_lines
from pipeline.report.text import render_text
from pipeline.scores.features import Features, FeatureSet, features_are_there, kid, load_features
from pipeline.scores.metrics import mean_image
from pipeline.scores.table import Metric, metrics_on, score_pair, summarise
from pipeline.stores import Store, image_columns, open_store, read_rows
from pipeline.stores.versions import current_root

TRANSLATION, MEAN, UNTRAINED = "translation", "mean training image", "untrained generator"
_TARGET = "target"


@dataclass
class Evaluation:
    """Scores by prediction, features where they are installed, and the images of the first rows."""

    scores: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    samples: list[tuple[str, list[np.ndarray]]] = field(default_factory=list)
    features: Features | None = None
    sets: dict[str, FeatureSet] = field(default_factory=dict)

    def add(self, name: str, picture: np.ndarray, target: np.ndarray) -> None:
        """Score an image made by `name` against its target."""
        self.scores.setdefault(name, []).append(score_pair(picture, target))
        self.note(name, picture)

    def note(self, name: str, picture: np.ndarray) -> None:
        """Add the features of an image to the set `name`."""
        if self.features:
            self.sets.setdefault(name, FeatureSet(self.features, torch.device(hardware.default_device()))).add(picture)

    def summary(self) -> Mapping[str, Mapping[str, float]]:
        found = {name: summarise(scores) for name, scores in self.scores.items()}
        if self.features:
            real = self.sets[_TARGET].values()
            for name, scores in found.items():
                if len(others := self.sets[name].values()) > 1:
                    scores[self.features.kid_name] = kid(real, others)
        return found


def evaluate(config: EvaluateConfig) -> str:
    """Score a store, publish report.html, contact_sheet.png and scores.json, and return the report as text.

    Every image is compared at the size of its translation: a target of another size is resized to it (bicubic).
    The scores include KID, named after its features, where these are installed.
    Raises UserError where the store has no target, or a baseline lacks what it needs.
    """
    store = open_store(config.input)
    column = _target_column(store, config.target_column)
    baselines = _Baselines(config, store, column)
    evaluation = Evaluation(features=load_features() if features_are_there() else None)
    for row in _rows(store, ["image", "source_image", column]):
        translated = _decoded(store, row, "image")
        target = images.resize(_decoded(store, row, column), translated.shape[1], translated.shape[0])
        source = _decoded(store, row, "source_image") if row.get("source_image") else None
        for name, picture in ((TRANSLATION, translated), *baselines.pictures(source, translated.shape)):
            evaluation.add(name, picture, target)
        evaluation.note(_TARGET, target)
        if len(evaluation.samples) < config.rows:
            shown = [*([source] if source is not None else []), translated, target]
            evaluation.samples.append((row["key"], list(map(fitted, shown))))
    if not evaluation.samples:
        raise UserError(f"{config.input}: holds no rows to score")
    return _publish(config, store, column, evaluation)


class _Baselines:
    """Predictions without a trained model: the mean of the training targets, and an untrained generator."""

    def __init__(self, config: EvaluateConfig, store: Store, column: str) -> None:
        self.mean: np.ndarray | None = None
        self.untrained: Translator | None = None
        if config.train:
            train = open_store(config.train)
            height, width = _decoded(store, next(_rows(store, ["image"])), "image").shape[:2]
            pixels = (_decoded(train, row, column) for row in _rows(train, [column]))
            self.mean = mean_image(images.resize(p, width, height) for p in pixels)
        if config.bundle:
            if "source_image" not in store.schema.names:
                raise UserError(
                    f"{config.input}: the untrained generator needs source_image; translate with --keep_source"
                )
            architecture = open_bundle(storage.absolute(config.bundle)).generator_config
            untrained = build_generator(architecture, generator=torch.Generator().manual_seed(0))
            self.untrained = Translator.of(untrained, architecture, exact(hardware.default_device(), batch=1))

    def pictures(self, source: np.ndarray | None, shape: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray]]:
        if self.mean is not None:
            yield MEAN, images.resize(self.mean, shape[1], shape[0])
        if self.untrained is not None and source is not None:
            yield UNTRAINED, self.untrained.all([images.resize(source, shape[1], shape[0])])[0]


def _target_column(store: Store, wanted: str) -> str:
    pictures = [c for c in image_columns(store.schema) if c not in ("image", "source_image")]
    column = wanted or next((c for c in ("image_b", "image_a") if c in pictures), "")
    if "image" not in store.schema.names or column not in image_columns(store.schema):
        raise UserError(
            f"{store.url}: needs `image` and a target column; image columns are "
            f"{', '.join(image_columns(store.schema)) or 'none'}; translate a paired store, or choose --target_column"
        )
    return column


def _rows(store: Store, columns: list[str]) -> Iterator[dict[str, Any]]:
    for piece in store.ranges:
        yield from read_rows([piece], columns).to_pylist()


def _decoded(store: Store, row: Mapping[str, Any], column: str) -> np.ndarray:
    """Decode the image in a column of a row. Raises UserError naming the image where that fails."""
    try:
        return images.decode(images.encoded_in(row[column])).pixels
    except images.BadImage as bad:
        raise UserError(
            f"{store.url}: {column} of {row['key']!r} cannot be decoded ({bad.reason}: {bad}); "
            "pack the images anew with jobs.pack, which quarantines such images"
        ) from bad


def _publish(config: EvaluateConfig, store: Store, column: str, evaluation: Evaluation) -> str:
    heads = (["input"] if len(evaluation.samples[0][1]) == 3 else []) + ["translation", f"target ({column})"]
    sheet = contact_sheet(heads, [p for _, p in evaluation.samples], captions=[key for key, _ in evaluation.samples])
    summary = evaluation.summary()
    on_pairs = metrics_on("pairs")
    rows = [[name, *(cell for metric in on_pairs for cell in _cells(metric, s))] for name, s in summary.items()]
    kid_name = evaluation.features.kid_name if evaluation.features else ""
    kids = [[name, f"{s[kid_name]:.4f}"] for name, s in summary.items() if kid_name in s]
    lines = quarantine_lines(
        e.url for e in storage.list_files(Output(current_root(store.url)).at("_quarantine"), ".parquet")
    )
    quarantined = list(itertools.islice(lines, MOST_LINES))
    count = len(quarantined) + sum(1 for _ in lines)
    report = Report(
        title="Evaluation of a translated store",
        status="complete",
        subtitle=config.input,
        facts=[("pairs", f"{len(evaluation.scores[TRANSLATION]):,}"), ("target", column)],
        tables=[
            Table(
                title="Distance to the target (L1 on a scale of 0 to 1)",
                columns=["prediction", *(f"{m.title} {kind}" for m in on_pairs for kind in ("mean", "median"))],
                rows=rows,
            ),
            *_kid_table(evaluation.features, kids),
        ],
        sheet_png=sheet,
        quarantine=quarantined,
        quarantine_total=count,
    )
    output = storage.absolute(config.output)
    storage.replace(storage.join(output, "scores.json"), json.dumps(summary, indent=1).encode())
    storage.replace(storage.join(output, "contact_sheet.png"), sheet)
    storage.replace(storage.join(output, "report.html"), render_report(report).encode())
    return render_text(report) + "\n" + printable(f"report: {output}/report.html")


def _cells(metric: Metric, summary: Mapping[str, float]) -> list[str]:
    values = (summary[f"{metric.name}_{kind}"] for kind in ("mean", "median"))
    return [f"{value:.{metric.digits}f}{metric.unit}" for value in values]


def _kid_table(features: Features | None, rows: list[list[str]]) -> list[Table]:
    if not features or not rows:
        return []
    title = f"Distance of the sets of pictures (KID on {features.name}: not to be compared with published KID)"
    return [Table(title=title, columns=["prediction", "KID"], rows=rows)]
