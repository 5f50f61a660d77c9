"""Scores of one evaluated input, each with its interval and its protocol.

A protocol is all that decides a score besides the images: scores of two protocols never stand side by side.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import images
from pipeline.engine.records.account import Notes
from pipeline.evaluate.config import EvaluateConfig, check_kid_subset
from pipeline.evaluate.job import Evaluation, Plan
from pipeline.evaluate.measuring.reduction import Column, Reduced, SetStatistics
from pipeline.evaluate.measuring.scoring import TARGET, Program
from pipeline.scores.sets import distances, intervals
from pipeline.scores.sets.intervals import CONFIDENCE, Replicates
from pipeline.scores.sets.neighbours import BALL, MANIFOLD, Neighbours
from pipeline.scores.sets.pairs import add_all_pairs
from pipeline.scores.table import Metric, On, metric_named, metrics_on
from pipeline.stores import Store, read_rows

_KID_SUBSET = 1000


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score of one prediction."""

    name: str
    """Name of the metric, with the extractor's where it depends on that, such as kid_efficientnet_lite0."""
    metric: Metric
    value: float
    standard_error: float
    """Of the value, by other images of the same kind; nan where it is not known."""
    images: int
    median: float = math.nan
    infinite: int = 0
    missing: int = 0
    replicates: Replicates | None = None
    """Values with images drawn anew, alike for all inputs, from which the error of a difference follows."""
    protocol: str = ""
    """Key of its protocol."""

    @property
    def interval(self) -> tuple[float, float]:
        """Return the bounds that hold 95% of such values."""
        aside = CONFIDENCE * self.standard_error
        return self.value - aside, self.value + aside

    @property
    def on(self) -> On:
        return self.metric.on


def extractor_name(name: str) -> str:
    """Return an extractor's name as part of a score's name."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


def subset_size(config: EvaluateConfig, real: SetStatistics, other: SetStatistics) -> int:
    """Return the images of a subset of KID; 0 where there are too few for any. Raises UserError where too few."""
    most = distances.largest_subset(real.sample, other.sample)
    if config.kid_subset is None:
        half = min(len(real.sample), len(other.sample)) // 2  # so that subsets differ, and say how sure KID is
        return min(_KID_SUBSET, most, max(2, half)) if most >= 2 else 0
    check_kid_subset(config, real.count, other.count, most)
    return config.kid_subset


def column_scores(reduced: Reduced, prediction: str) -> tuple[list[Score], Mapping[str, str]]:
    """Return the scores that are means over images, and by title why others are of no image."""
    found, why = list[Score](), dict[str, str]()
    for name, column in reduced.columns.get(prediction, {}).items():
        metric = metric_named(name)
        assert metric
        if column.images or column.infinite:
            found.append(_of_column(name, metric, column))
        else:
            small = f"all images have fewer than {metric.least_side} pixels a side"
            why[metric.title] = small if metric.least_side > 1 else "it could be computed of no image"
    order = [metric.name for metric in metrics_on()]
    return sorted(found, key=lambda score: order.index(score.metric.name)), why


def _of_column(name: str, metric: Metric, column: Column) -> Score:
    count = column.images + column.infinite + column.missing
    replicates = intervals.mean_replicates(column.sample.values, count)
    return Score(
        name=name,
        metric=metric,
        value=column.mean,
        standard_error=replicates.standard_error,
        median=column.median,
        images=column.images + column.infinite,
        infinite=column.infinite,
        missing=column.missing,
        replicates=replicates,
    )


def set_scores(
    config: EvaluateConfig, extractor: str, real: SetStatistics, other: SetStatistics
) -> tuple[list[Score], Mapping[str, str]]:
    """Return the scores of one set against the real one, and why others are not measured, by title."""
    if _sees_nothing(real, other):
        return [], dict.fromkeys((metric.title for metric in metrics_on("sets")), _NOTHING_SEEN)
    measured = _OfPairs(config, real, other)
    found, why = list[Score](), dict[str, str]()
    for metric in metrics_on("sets"):
        name = f"{metric.name}_{extractor_name(extractor)}"
        try:
            if metric.name == "fid":
                found.append(_fid(metric, name, real, other))
            elif metric.name == "kid":
                found.append(_kid(metric, name, measured.kernel, other.count))
            else:
                found.append(_of_neighbours(metric, name, measured.neighbours.values(metric.name)))
        except ValueError as error:
            why[metric.title] = str(error)
    return found, why


_NOTHING_SEEN = "the extractor gives the same features for all images of both sets"


def _sees_nothing(real: SetStatistics, other: SetStatistics) -> bool:
    """Return True where several images a set have one and the same features, so that every distance would be 0."""
    first = real.sample.values[0]
    return min(real.count, other.count) > 1 and all((each.sample.values == first).all() for each in (real, other))


class _OfPairs:
    """What scores take of the pairs of two samples, which are gone through once for all of them."""

    def __init__(self, config: EvaluateConfig, real: SetStatistics, other: SetStatistics) -> None:
        self.neighbours = Neighbours(real.sample, other.sample)
        self._sums, size = None, subset_size(config, real, other)
        self._why = f"it needs more than {real.count} real and {other.count} translated images"
        if size:
            self._sums = distances.KernelSums(
                real.sample, other.sample, size=size, subsets=config.kid_subsets, seed=config.seed
            )
        add_all_pairs(real.sample, other.sample, self.neighbours, *([self._sums] if self._sums else []))

    @property
    def kernel(self) -> distances.Kernel:
        """Return KID. Raises ValueError where there are too few images."""
        if not self._sums:
            raise ValueError(self._why)
        return self._sums.distance()


def _kid(metric: Metric, name: str, kid: distances.Kernel, images: int) -> Score:
    error, spread = kid.standard_error, float(np.std(kid.values))
    known = math.isfinite(error) and spread
    return Score(
        name=name,
        metric=metric,
        value=kid.mean,
        standard_error=error,
        images=images,
        replicates=Replicates(values=kid.values, share=(error / spread) ** 2) if known else None,
    )


def _fid(metric: Metric, name: str, real: SetStatistics, other: SetStatistics) -> Score:
    value = distances.frechet(real.gaussian, other.moments)
    replicates = intervals.frechet_replicates(real.gaussian, other.sample.values, other.count)
    return Score(
        name=name,
        metric=metric,
        value=value,
        standard_error=replicates.standard_error,
        images=other.count,
        replicates=replicates,
    )


def _of_neighbours(metric: Metric, name: str, values: np.ndarray) -> Score:
    replicates = intervals.mean_replicates(values, len(values))
    return Score(
        name=name,
        metric=metric,
        value=float(values.mean()),
        standard_error=replicates.standard_error,
        images=len(values),
        replicates=replicates,
    )


@dataclass(frozen=True, kw_only=True)
class Result:
    """All scores of one input."""

    name: str
    url: str
    step: float | None
    scores: Mapping[str, Sequence[Score]]
    """By prediction."""
    protocols: Mapping[str, Mapping[str, str]]
    """By key."""
    counts: Mapping[str, int]
    columns: Mapping[str, Mapping[str, Column]]
    """Scores of images, for histograms and extremes."""
    unmeasured: Mapping[str, str]
    notes: Notes = ()
    """What was noted of images while they were decoded."""


def difference_is_noise(one: Score, other: Score) -> bool:
    """Return True where the difference of two scores is within what other images would change.

    Draws are alike for both where their samples are of the same keys, so that what both have in common cancels out.
    Where nothing is known of an error, nothing is called noise.
    """
    if one.value == other.value:
        return True
    if not (math.isfinite(one.value) and math.isfinite(other.value)):
        return False
    a, b = one.replicates, other.replicates
    if a is None or b is None:
        return False
    if len(a.values) == len(b.values):
        error = float(np.std(a.values - b.values)) * math.sqrt(max(a.share, b.share))
    else:
        error = math.hypot(one.standard_error, other.standard_error)
    return math.isfinite(error) and abs(one.value - other.value) <= CONFIDENCE * error


def real_set(reduced: Reduced, reference: SetStatistics | None) -> SetStatistics | None:
    """Return the real set of an input: the reference, else its own targets."""
    return reference or reduced.sets.get(TARGET)


_FIRST = 16
"""Images whose codec is looked at."""
TYPES = "grey repeated, 8 bits raised to 16 beside 16 bits; 0 to 1 of full intensity"
SHOWN = "upper 8 of 16 bits, grey repeated, 0 to 255"

Protocol = Mapping[str, str]
"""Names and values, all text."""


def key_of(protocol: Protocol) -> str:
    """Return a short name of a protocol: equal for equal ones."""
    return hashlib.sha256(json.dumps(dict(protocol), sort_keys=True).encode()).hexdigest()[:8]


def in_words(protocol: Protocol) -> str:
    """Return a protocol on one line."""
    return "; ".join(f"{name}: {value}" for name, value in protocol.items())


def codecs(store: Store, column: str) -> str:
    """Return the formats and types of the first images of a column, such as `PNG, RGB of 8 bits`."""
    if not column:
        return ""
    found = Counter[str]()
    for cell in read_rows(store.first_rows(_FIRST), [column])[column].to_pylist():
        data = (cell or {}).get("bytes") or b""
        if kind := images.format_of(data):
            found[f"{kind}, {images.type_of(data) or 'of unknown type'}"] += 1
    return " and ".join(sorted(found)) or "unknown"


def protocols(
    config: EvaluateConfig, plan: Plan, evaluation: Evaluation, counts: Mapping[str, int], real: Mapping[str, Any]
) -> Mapping[On, Protocol]:
    """Return the protocol of each kind of metric for one input.

    `counts` are those of its images, and `real` says of what the real set is, and of how many images.
    """
    scoring, store = evaluation.scoring, evaluation.store
    common = {
        "images": f"{counts['ok']:,}",
        "split": config.split or "not said",
        "codec": codecs(store, scoring.image),
    }
    if said := scoring.reading.recorded():
        common["reading"] = ", ".join(f"{name} {value}" for name, value in said.items())
    against_target = {
        "target": f"{scoring.target}, {codecs(store, scoring.target)}, bicubic to the translation's size",
        "values": TYPES,
    }
    programs = {"LPIPS": f"AlexNet {scoring.lpips.sha256[:8]}, heads 0.1"} if scoring.lpips else {}
    found: dict[On, Protocol] = {"pairs": common | against_target | programs}
    networks = {"direction": scoring.direction}
    found["cycles"] = common | networks | {"way back": scoring.cycle[:8], "values": TYPES}
    found["identities"] = common | networks | against_target
    structure = scoring.structure
    how = f"program {structure.sha256[:8]}" if isinstance(structure, Program) else f"{structure}, 224 × 224"
    found["sources"] = common | {"structure": how, "values": SHOWN}
    if extractor := plan.extractor:
        found["sets"] = {
            "extractor": extractor.short,
            "resize": extractor.resize,
            "values": SHOWN,
            "real": f"{real['images']:,} images, {real['of']}",
            "translations": f"{counts['ok']:,}",
            "split": common["split"],
            "codec": f"{common['codec']}; real {real['codec']}",
            **({"reading": common["reading"]} if "reading" in common else {}),
            "sample": f"{config.sample:,}, seed {config.seed}; KID {config.kid_subsets} subsets of {real['subset']}; "
            f"manifold k = {MANIFOLD}, density and coverage k = {BALL}",
        }
    return found
