"""Report of an evaluation: its tables, charts and galleries, as a pure function of its results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.evaluate.comparison import Group, groups, moved_geometry, row_name, tables
from pipeline.evaluate.measuring.scoring import TITLES, TRANSLATION
from pipeline.evaluate.results import Result, Score
from pipeline.report.content import Chart, Gallery, QuarantineLine, Report, Table, histogram_bins
from pipeline.scores.table import metric_named


def evaluation_report(
    results: Sequence[Result],
    *,
    galleries: Sequence[Gallery] = (),
    quarantine: Sequence[QuarantineLine] = (),
    command: str = "",
    provenance: Sequence[tuple[str, str]] = (),
) -> Report:
    """Return the report of all inputs that were evaluated together."""
    quarantined = sum(result.counts["quarantined"] for result in results)
    one = results[0]
    counted = [f"{result.counts['ok']:,} of {result.counts['inputs']:,}" for result in results]
    facts = [("images that were scored", counted[0]), ("quarantined", f"{quarantined:,}")]
    if len(results) > 1:
        facts = [
            (f"scored of {result.name}", f"{some} in {result.url}")
            for result, some in zip(results, counted, strict=True)
        ]
    return Report(
        title="Evaluation of a translated store" if len(results) == 1 else "Comparison of translated stores",
        status="complete",
        subtitle=one.url if len(results) == 1 else ", ".join(result.name for result in results),
        facts=facts,
        notes=[f"{line}." for line in moved_geometry(results)],
        summary=tables(results),
        tables=[*_medians(results), *_unmeasured(results), *_noted(results)],
        charts=[*_over_steps(results), *_fid_against_structure(results), *_histograms(results)],
        galleries=galleries,
        command=command,
        provenance=provenance,
        quarantine=quarantine,
        quarantine_total=quarantined,
    )


def _medians(results: Sequence[Result]) -> list[Table]:
    """Return the medians of scores of images, and how many images have none or an infinite one."""
    rows = []
    for result in results:
        for prediction, scores in result.scores.items():
            for score in (each for each in scores if each.on != "sets"):
                if math.isnan(score.median):
                    continue
                name = row_name(result, prediction, len(results))
                median = f"{score.median:.{score.metric.digits}f}{score.metric.unit}"
                rows.append([name, score.metric.title, median, f"{score.infinite:,}", f"{score.missing:,}"])
    columns = ["", "score", "median", "images without any difference", "images without a score"]
    # Of the last two, those that have anything to say.
    kept = [i for i in range(len(columns)) if i < 3 or any(row[i] != "0" for row in rows)]
    shown = [[row[i] for i in kept] for row in rows]
    title = "Medians over single images"
    return [Table(title=title, columns=[columns[i] for i in kept], rows=shown)] if rows else []


def _unmeasured(results: Sequence[Result]) -> list[Table]:
    why = {(title, reason) for result in results for title, reason in result.unmeasured.items()}
    rows = [[title, reason] for title, reason in sorted(why)]
    return [Table(title="Not measured", columns=["score", "why"], rows=rows)] if rows else []


def _noted(results: Sequence[Result]) -> list[Table]:
    """Return a table of what was noted of images while they were decoded, where anything was."""
    rows = [[result.name, note, f"{count:,}"] for result in results for note, count in result.notes]
    columns = ["", "of an image", "images"]
    return [Table(title="Noted of images while they were decoded", columns=columns, rows=rows)] if rows else []


def _over_steps(results: Sequence[Result]) -> list[Chart]:
    """Return a chart of each score over the training steps, where these are known and there are several."""
    steps = {result.name: result.step for result in results if result.step is not None}
    charts = []
    for group in groups(results) if len(steps) > 1 else ():
        for name in group.names:
            points = [
                (steps[row.name], row.scores[name].value)
                for row in group.rows
                if row.name in steps and name in row.scores and math.isfinite(row.scores[name].value)
            ]
            if len(points) > 1:
                y_title = _axis(group, name)
                charts.append(
                    Chart(
                        title=f"{y_title.partition(' (')[0]} over training",
                        kind="line",
                        x_title="training step",
                        y_title=y_title,
                        series={"translation": sorted(points)},
                        note=f"{name}, by the protocol of its table",
                    )
                )
    return charts


_DECIMALS = 9
"""Decimals of values in a histogram, so that rounding alone makes no bins."""


def _axis(group: Group, name: str) -> str:
    metric = next(row.scores[name] for row in group.rows if name in row.scores).metric
    better = "larger" if metric.higher_is_better else "smaller"
    unit = f"{metric.unit.strip()}, " if metric.unit.strip() else ""
    return f"{metric.title} ({unit}{better} is better)"


def _fid_against_structure(results: Sequence[Result]) -> list[Chart]:
    """Return a chart of FID over structure distance for each protocol of FID with several inputs."""
    if len(results) < 2:
        return []
    of_input = {result.name: result for result in results}
    charts = []
    for group in groups(results):
        fid = next((name for name in group.names if name.startswith("fid_")), "")
        points: dict[str, list[tuple[float, float]]] = {}
        labels: dict[str, list[str]] = {}
        for row in group.rows if fid else ():
            structure = _structure(of_input.get(row.name))
            if structure and fid in row.scores and math.isfinite(structure.value):
                points.setdefault(structure.name, []).append((structure.value, row.scores[fid].value))
                labels.setdefault(structure.name, []).append(row.name)
        for name, some in points.items():
            if len(some) > 1:
                charts.append(
                    Chart(
                        title="FID against structure distance",
                        kind="scatter",
                        x_title=f"{name} (smaller: geometry kept)",
                        y_title="FID (smaller is better)",
                        series={"inputs": some},
                        labels={"inputs": labels[name]},
                        note=" ".join(moved_geometry(results))
                        or "No input has a lower FID and more moved geometry than another, beyond noise.",
                    )
                )
    return charts


def _structure(result: Result | None) -> Score | None:
    scores = result.scores.get(TRANSLATION, ()) if result else ()
    return next((score for score in scores if score.on == "sources"), None)


def _histograms(results: Sequence[Result]) -> list[Chart]:
    """Return a histogram of each score of single images; one input has its predictions, several their translations."""
    values: dict[str, dict[str, np.ndarray]] = {}
    for result in results:
        for prediction, columns in result.columns.items():
            if len(results) > 1 and prediction != TRANSLATION:
                continue
            title = TITLES[prediction] if len(results) == 1 else result.name
            for name, column in columns.items():
                values.setdefault(name, {})[title] = np.round(column.sample.values, _DECIMALS)
    charts = []
    for name, of_series in values.items():
        metric = metric_named(name)
        series = histogram_bins({each: some.tolist() for each, some in of_series.items()})
        if metric and series:
            unit = f" ({metric.unit.strip()})" if metric.unit.strip() else ""
            charts.append(
                Chart(
                    title=f"{metric.title} of single images",
                    kind="histogram",
                    x_title=f"{metric.title}{unit or ' (no unit)'}",
                    y_title="images",
                    series=series,
                    note=_sampled(of_series),
                )
            )
    return charts


def _sampled(of_series: Mapping[str, np.ndarray]) -> str:
    """Return of how many images a histogram is."""
    counts = {name: int(np.isfinite(some).sum()) for name, some in of_series.items()}
    if len(set(counts.values())) == 1:
        return f"{next(iter(counts.values())):,} images{' each' if len(counts) > 1 else ''}."
    return f"Images with a finite value: {', '.join(f'{name} {count:,}' for name, count in counts.items())}."
