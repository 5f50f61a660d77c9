"""From the rows of an evaluation to its scores: means, medians, and what scores of sets are computed from.

Rows are read in the plan's order, some units at a time. Sums are of whole numbers, and samples are drawn by a hash of
the keys, so no digit depends on units, workers or order, and memory does not grow with the set.
"""

from __future__ import annotations

import functools
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.engine.completion import finish
from pipeline.engine.records.account import Notes
from pipeline.engine.records.layout import Output
from pipeline.errors import UserError
from pipeline.evaluate.measuring.scoring import FEATURES, Scoring, column_of
from pipeline.scores.sets.distances import Gaussian
from pipeline.scores.sets.sampling import Sample, Sampler, places
from pipeline.scores.sets.sums import Mean, Moments, Scale, moments

MOST_VALUES = 100_000
"""Images, at most, whose scores are held, for medians, histograms and intervals; means are of all."""
_THREADS = 8
_EXTREMES = 64
"""Best and worst rows that are kept of each score."""


@dataclass(frozen=True, kw_only=True)
class Extreme:
    """Row that is among the best or the worst by a score."""

    value: float
    key: str
    unit: str


@dataclass(frozen=True, kw_only=True)
class Column:
    """Score of all images of one prediction."""

    mean: float
    median: float
    images: int
    """Images with a finite score."""
    infinite: int
    missing: int
    sample: Sample
    """Values of at most MOST_VALUES images."""
    least: Sequence[Extreme]
    greatest: Sequence[Extreme]


@dataclass(frozen=True, kw_only=True)
class SetStatistics:
    """What is kept of the features of one set: sums over all of its images, and a sample of them."""

    moments: Moments
    sample: Sample

    @property
    def count(self) -> int:
        return self.moments.count

    @functools.cached_property
    def gaussian(self) -> Gaussian:
        """Return the set as a Gaussian. Raises ValueError for a set of one image."""
        return Gaussian.of(self.moments, self.sample)


@dataclass(frozen=True, kw_only=True)
class Reduced:
    """Scores of one output of an evaluation, before sets are compared."""

    columns: Mapping[str, Mapping[str, Column]]
    """By prediction and score."""
    sets: Mapping[str, SetStatistics]
    counts: Mapping[str, int] = field(default_factory=dict)
    """Images ok, quarantined, and of all."""
    notes: Notes = ()
    """What was noted of images while they were decoded."""


def manifest_of(output: Output) -> pa.Table:
    """Return the manifest of a complete output. Raises FileNotFoundError where it is not complete."""
    table = finish.read_manifest(storage.read(output.manifest))
    if table is None:
        raise UserError(f"{output.manifest} is damaged; delete {output.success}, and run the same command again")
    return table


def reduce_output(output: Output, scoring: Scoring, sample: int, seed: int) -> Reduced:
    """Return the scores in the rows of a complete output. Raises UserError where no row is left."""
    manifest = manifest_of(output)
    counts = {name: int(np.sum(manifest[name].to_numpy())) for name in ("inputs", "ok", "quarantined")}
    if not counts["ok"]:
        raise UserError(
            f"{output.url}: none of {counts['inputs']} images could be scored; see {output.url}/_quarantine for why"
        )
    columns = _columns(output, manifest, scoring, seed)
    sets = {
        name: set_statistics(lambda name=name: _features(output, manifest, name, seed), sample)  # type: ignore[misc]
        for name in scoring.sets
    }
    return Reduced(columns=columns, sets=sets, counts=counts, notes=finish.notes_of(manifest))


def _tables(output: Output, manifest: pa.Table, names: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """Yield each unit with rows, and these columns of it, in the plan's order."""
    units = (row for batch in manifest.to_batches(1024) for row in batch.to_pylist() if row["ok"])

    def read(row: Mapping[str, Any]) -> tuple[str, pa.Table | None]:
        return row["unit"], finish.read_made(output, row, names)

    for unit, table in storage.ahead(read, units, _THREADS):
        if table is not None:
            yield unit, table


def _columns(output: Output, manifest: pa.Table, scoring: Scoring, seed: int) -> dict[str, dict[str, Column]]:
    names = {(p, score): column_of(p, score) for p in scoring.predictions for score in scoring.scores(p)}
    tallies = {each: _Tally() for each in names}
    if names:
        for unit, table in _tables(output, manifest, ["key", *names.values()]):
            keys = table["key"].to_pylist()
            at = places(keys, seed)
            for each, name in names.items():
                tallies[each].add(unit, keys, at, table[name].to_numpy())
    found: dict[str, dict[str, Column]] = {prediction: {} for prediction in scoring.predictions}
    for (prediction, score), tally in tallies.items():
        found[prediction][score] = tally.column()
    return found


class _Tally:
    """Account of one score while rows come."""

    def __init__(self) -> None:
        self._mean, self._sampler = Mean(), Sampler(MOST_VALUES)
        self._ends: list[list[Extreme]] = [[], []]

    def add(self, unit: str, keys: Sequence[str], at: np.ndarray, values: np.ndarray) -> None:
        self._mean.add(values)
        self._sampler.add(at, values)
        there = np.flatnonzero(~np.isnan(values))
        order = there[np.argsort(values[there], kind="stable")]
        for i, rows in enumerate((order[:_EXTREMES], order[::-1][:_EXTREMES])):
            some = [Extreme(value=float(values[row]), key=keys[row], unit=unit) for row in rows]
            sign = -1 if i else 1
            ranked = sorted(self._ends[i] + some, key=lambda each: (sign * each.value, each.key))
            self._ends[i] = ranked[:_EXTREMES]

    def column(self) -> Column:
        sample = self._sampler.sample()
        return Column(
            mean=self._mean.value,
            median=median(sample.values),
            images=self._mean.count,
            infinite=self._mean.infinite,
            missing=self._mean.missing,
            sample=sample,
            least=self._ends[0],
            greatest=self._ends[1],
        )


def median(values: np.ndarray) -> float:
    """Return the median of the values that are there, of which infinity is the largest; nan without any.

    numpy's median is nan where it must average two infinities.
    """
    there = np.sort(values[~np.isnan(values)])
    if not len(there):
        return float("nan")
    low, high = there[[(len(there) - 1) // 2, len(there) // 2]]
    return float((low + high) / 2) if np.isfinite(high) else float(high)


Batches = Iterator[tuple[np.ndarray, np.ndarray]]


def _features(output: Output, manifest: pa.Table, name: str, seed: int) -> Batches:
    """Yield places and features, [N] and float32 [N, D], of the images of a set."""
    column = column_of(name, FEATURES)
    for _, table in _tables(output, manifest, ["key", column]):
        chunk = table[column].combine_chunks()
        values = chunk.flatten().to_numpy().reshape(len(table), chunk.type.list_size)
        yield places(table["key"].to_pylist(), seed), values


def set_statistics(batches: Callable[[], Batches], sample: int) -> SetStatistics:
    """Return what is kept of a set, whose batches are read twice: for the scale of its sums, and for the sums.

    Raises ValueError where a feature is no finite number.
    """
    largest, count, sampler = 0.0, 0, Sampler(sample)
    for at, values in batches():
        largest = max(largest, float(np.abs(values).max(initial=0.0)))
        count += len(values)
        sampler.add(at, values)
    scale = Scale.of(largest, count)
    return SetStatistics(moments=moments((values for _, values in batches()), scale), sample=sampler.sample())


def encode_statistics(statistics: SetStatistics, about: Mapping[str, Any]) -> bytes:
    """Return the file of a reference: its statistics, and `about`, the protocol that made them."""
    buffer, found = io.BytesIO(), statistics.moments
    np.savez(
        buffer,
        about=np.array(json.dumps(dict(about), sort_keys=True)),
        count=np.array([found.count, found.scale.exponent], np.int64),
        total=found.total,
        products=found.products,
        places=statistics.sample.places,
        features=np.asarray(statistics.sample.values, np.float32),
    )
    return buffer.getvalue()


def read_statistics(url: str) -> tuple[SetStatistics, dict[str, Any]]:
    """Read the file of a reference. Raises UserError where it is damaged, or no such file."""
    try:
        with np.load(io.BytesIO(storage.read(url)), allow_pickle=False) as file:
            held = {name: file[name] for name in ("about", "count", "total", "products", "places", "features")}
        count, exponent = (int(each) for each in held["count"])
        about = json.loads(str(held["about"]))
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{url}: no statistics of a reference, as jobs.evaluate writes them, or damaged; give a store"
        ) from error
    moments_ = Moments(count=count, scale=Scale(exponent=exponent), total=held["total"], products=held["products"])
    return SetStatistics(moments=moments_, sample=Sample(held["places"], held["features"])), about
