"""Scores and features of the images of one unit: the stage of an evaluation that holds the networks.

Each image goes through every network by itself, on a CPU with one thread, so that no score depends on the batch, on the
number of workers, or on the other images.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import images
from pipeline.cluster.watchdog import made_progress
from pipeline.engine.publishing.reading import read_unit
from pipeline.engine.records.account import Batch, Quarantined, noted, notes_together
from pipeline.engine.records.units import Unit
from pipeline.images.basis import raster
from pipeline.scores.extractors.extractor import Extract, Extractor, load_extractor
from pipeline.scores.metrics import alike
from pipeline.scores.structure import GRADIENT, Structure, gradient_distance, self_similarity_distance
from pipeline.scores.table import Metric, metrics_on
from pipeline.stores import SHARD

TRANSLATION, MEAN, UNTRAINED, TARGET = "translation", "mean_image", "untrained", "target"
TITLES = {TRANSLATION: "translation", MEAN: "mean training image", UNTRAINED: "untrained generator"}
"""Predictions by the names that their columns begin with, and their names for people."""
STAGE = "score"
FEATURES = "features"


def column_of(prediction: str, score: str) -> str:
    """Return the column of a prediction's score."""
    return f"{prediction}__{score}"


@dataclass(frozen=True, kw_only=True)
class Program:
    """File of a network besides the extractor."""

    url: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What is measured of each row, as plain data."""

    image: str = ""
    """Column of the translation; empty where there are reference images alone, in the column `target`."""
    target: str = ""
    """Column of the target; empty where rows have none."""
    source: str = ""
    """Column of the image that was translated; empty where rows have none."""
    extractor: Extractor | None = None
    target_features: bool = False
    """True where the targets are the reference."""
    lpips: Program | None = None
    structure: Program | str = ""
    """Program that gives tokens, GRADIENT, or empty."""
    bundle: str = ""
    direction: str = ""
    cycle: str = ""
    """Fingerprint of the network that translates back; empty where cycles are not measured."""
    identity: bool = False
    untrained: bool = False
    mean: str = ""
    """URL of the mean training image, an array as numpy saves it."""
    device: str = "cpu"
    reading: images.Reading = images.AS_STORED
    """How files are read."""

    @property
    def structure_name(self) -> str:
        """Return the name of the structure distance; empty where it is not measured."""
        if not self.structure:
            return ""
        return f"structure_{self.structure if isinstance(self.structure, str) else self.structure.sha256[:8]}"

    @property
    def predictions(self) -> Sequence[str]:
        """Return what is scored, beside reference images."""
        found = [TRANSLATION] * bool(self.image) + [MEAN] * bool(self.mean) + [UNTRAINED] * self.untrained
        return found if self.image else []

    def scores(self, prediction: str) -> Sequence[str]:
        """Return the names of the scores of a prediction's images."""
        pairs = [each.name for each in metrics_on("pairs") if each.of_pair or self.lpips] if self.target else []
        own = [self.structure_name] if self.structure and self.source else []
        if prediction == TRANSLATION:
            own += ["cycle_l1"] * bool(self.cycle) + ["identity_l1"] * self.identity
        return [*pairs, *own]

    @property
    def sets(self) -> Sequence[str]:
        """Return the sets of images that have features."""
        if not self.extractor:
            return []
        return [*self.predictions, *([TARGET] if self.target_features else [])]

    @property
    def columns(self) -> list[str]:
        """Return the columns of the store that are read."""
        return list(dict.fromkeys(filter(None, (self.image, self.target, self.source))))


@dataclass(frozen=True)
class Read:
    """Stage that reads the rows of a unit, their images encoded."""

    columns: Sequence[str]

    def __call__(self, unit: Unit) -> Batch:
        rows, quarantined, skipped = read_unit(unit, self.columns)
        return Batch(unit, rows, tuple(quarantined), skipped)


class Scorer:
    """Stage that scores the rows of a unit, and quarantines those with an image that cannot be decoded."""

    def __init__(self, scoring: Scoring) -> None:
        """Load the networks. Raises UserError where one is another than that which the job was planned with."""
        self._scoring = scoring
        self._extract: Extract | None = None
        if scoring.extractor:
            self._extract = load_extractor(scoring.extractor, scoring.device)
        self._size = len(self._extract(np.zeros((64, 64, 3), np.uint8))) if self._extract else 0
        self._pairs = _pair_metrics(scoring)
        self._structure = _structure(scoring)
        self._mean = _mean_image(scoring.mean) if scoring.mean else None
        self._networks: Any = None
        if scoring.cycle or scoring.identity or scoring.untrained:
            from pipeline.evaluate.measuring.networks import Networks

            self._networks = Networks(
                scoring.bundle,
                scoring.direction,
                cycle=scoring.cycle,
                identity=scoring.identity,
                untrained=scoring.untrained,
                device=scoring.device,
            )

    def __call__(self, batch: Batch) -> Batch:
        from pipeline.cluster import hardware

        found, quarantined, notes = list[dict[str, Any]](), list(batch.quarantined), Counter[str]()
        with hardware.torch_threads(1), _as_exact_as_published():
            for row in _rows(batch.rows):
                try:
                    found.append(self._scored(row, notes))
                except images.BadImage as bad:
                    quarantined.append(Quarantined(row["key"], row[SHARD], STAGE, bad.reason, str(bad)))
                made_progress()
        noted_here = notes_together([batch.notes, noted(notes)])
        return replace(batch, rows=self._laid_out(found), quarantined=tuple(quarantined), notes=noted_here)

    def _scored(self, row: Mapping[str, Any], notes: Counter[str]) -> dict[str, Any]:
        """Return what is measured of a row, and count what is noted of its images.

        Raises BadImage, naming the column, where an image is not to be had.
        """
        scoring = self._scoring
        found: dict[str, Any] = {"key": row["key"], "source_shard": row[SHARD]}
        decoded = {column: _decoded(row, column, scoring.reading) for column in scoring.columns}
        notes.update(f"{column}: {note}" for column, each in decoded.items() for note in each.notes)
        target = decoded[scoring.target].pixels if scoring.target else None
        if scoring.image:
            translation = decoded[scoring.image].pixels
            source = decoded[scoring.source].pixels if scoring.source else None
            if target is not None and target.shape[:2] != translation.shape[:2]:
                target = images.resize(target, translation.shape[1], translation.shape[0])
            for prediction, pixels in self._predictions(translation, source):
                found |= self._scores_of(prediction, pixels, target, source)
            if self._networks:
                own = self._networks.scores(translation, source, target)
                found |= {column_of(TRANSLATION, name): value for name, value in own.items()}
        if scoring.target_features and target is not None:
            found[column_of(TARGET, FEATURES)] = self._features(target, TARGET)
        return found

    def _predictions(self, translation: np.ndarray, source: np.ndarray | None) -> Iterator[tuple[str, np.ndarray]]:
        height, width = translation.shape[:2]
        yield TRANSLATION, translation
        if self._mean is not None:
            yield MEAN, images.resize(self._mean, width, height)
        if self._scoring.untrained and source is not None:
            yield UNTRAINED, self._networks.untrained(images.resize(source, width, height))

    def _scores_of(
        self, prediction: str, pixels: np.ndarray, target: np.ndarray | None, source: np.ndarray | None
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if target is not None:
            try:
                one, other = alike(pixels, target)
            except ValueError as error:
                raise images.BadImage("unsupported type", f"{self._scoring.target}: {error}") from error
            found |= {name: of_pair(one, other) for name, of_pair in self._pairs.items()}
        if self._structure and source is not None:
            found[self._scoring.structure_name] = self._structure(source, pixels)
        if self._extract:
            found[FEATURES] = self._features(pixels, prediction)
        return {column_of(prediction, name): value for name, value in found.items()}

    def _features(self, pixels: np.ndarray, name: str) -> np.ndarray:
        """Return the features of an image. Raises BadImage where they are no finite numbers, since no sum could be."""
        assert self._extract
        features = self._extract(np.ascontiguousarray(raster.shown(pixels)))
        if len(features) != self._size:
            raise ValueError(f"the extractor gives {len(features)} features for one image and {self._size} for another")
        if not np.isfinite(features).all():
            raise images.BadImage("no features", f"{name}: the extractor gives features that are no finite numbers")
        return features

    def _laid_out(self, found: Sequence[Mapping[str, Any]]) -> pa.Table:
        scoring, columns = self._scoring, dict[str, pa.Array]()
        for name in ("key", "source_shard"):
            columns[name] = pa.array([each[name] for each in found], pa.string())
        columns["source_key"] = columns["key"]  # by which jobs.verify finds the input of a row
        for prediction in scoring.predictions:
            for score in scoring.scores(prediction):
                name = column_of(prediction, score)
                columns[name] = pa.array([each[name] for each in found], pa.float64())
        for each_set in scoring.sets:
            name = column_of(each_set, FEATURES)
            values = np.stack([each[name] for each in found]) if found else np.zeros((0, self._size))
            flat = pa.array(values.astype(np.float32).reshape(-1))
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, self._size)
        return pa.table(columns)


def _as_exact_as_published() -> contextlib.AbstractContextManager[None]:
    """Return a block in which a GPU convolves in fp32: TF32, torch's default there, moves FID by more than 1e-3."""
    import torch

    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table, one at a time."""
    for i in range(len(table)):
        yield {name: table[name][i].as_py() for name in table.column_names}


def _decoded(row: Mapping[str, Any], column: str, reading: images.Reading) -> images.Decoded:
    """Return an image, its pixels of its own type. Raises BadImage, naming the column."""
    try:
        return images.decode_by(reading, images.encoded_in(row[column]), wanted=None)
    except images.BadImage as bad:
        raise images.BadImage(bad.reason, f"{column}: {bad}") from bad


def _pair_metrics(scoring: Scoring) -> Mapping[str, Callable[[np.ndarray, np.ndarray], float]]:
    found: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {}
    for metric in metrics_on("pairs") if scoring.target else ():
        if metric.of_pair:
            found[metric.name] = metric.of_pair
        elif scoring.lpips:
            found[metric.name] = _lpips(metric, scoring.lpips, scoring.device)
    return found


def _lpips(metric: Metric, program: Program, device: str) -> Callable[[np.ndarray, np.ndarray], float]:
    from pipeline.scores.lpips import Lpips

    if metric.name != "lpips":
        raise ValueError(f"{metric.name} has no formula for a pair of images")
    distance = Lpips(program.url, program.sha256, device)
    return lambda a, b: distance(raster.shown(a), raster.shown(b))


def _structure(scoring: Scoring) -> Structure | None:
    if not (scoring.structure and scoring.source):
        return None
    if isinstance(scoring.structure, Program):
        return self_similarity_distance(scoring.structure.url, scoring.structure.sha256, scoring.device)
    assert scoring.structure == GRADIENT
    return gradient_distance


def _mean_image(url: str) -> np.ndarray:
    import io

    from pipeline import storage

    return np.load(io.BytesIO(storage.read(url)), allow_pickle=False)
