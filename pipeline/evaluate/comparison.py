"""Comparison of evaluated inputs: one table for each protocol, in words, JSON and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.evaluate.measuring.scoring import TITLES, TRANSLATION
from pipeline.evaluate.results import Result, Score, difference_is_noise, in_words, key_of
from pipeline.report.content import Table
from pipeline.scores.table import On

_ON: Mapping[On, str] = {
    "pairs": "images beside their targets",
    "sets": "all images beside the real ones",
    "cycles": "images translated there and back",
    "identities": "images of the target domain, put through the generator",
    "sources": "images beside their inputs",
}
"""What scores are of, in words, by what they are measured on."""
_COUNTS = ("images", "translations")
"""Parts of a protocol that say how many images there were."""
_MARKS = {
    "±": "± is half of the 95% interval",
    "*": "* is the best of its column",
    "≈": "≈ differs from the best by no more than noise",
}
_ALIKE = 1.02
"""Ratio up to which numbers of images do not keep scores of sets apart: FID falls with their number."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prediction of one input."""

    name: str
    scores: Mapping[str, Score]
    """By name."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Scores that may stand side by side: those of one protocol, whatever the input."""

    protocol: Mapping[str, str]
    names: Sequence[str]
    """Names of the scores, the columns."""
    rows: Sequence[Row]


def groups(results: Sequence[Result]) -> list[Group]:
    """Return the scores of all inputs, apart by protocol."""
    found: dict[str, dict[str, Any]] = {}
    for result in results:
        for prediction, scores in result.scores.items():
            of_protocol: dict[str, dict[str, Score]] = {}
            for score in scores:
                key = _comparable(result.protocols[score.protocol], results, score)
                of_protocol.setdefault(key, {})[score.name] = score
            for key, own in of_protocol.items():
                protocol = result.protocols[next(iter(own.values())).protocol]
                group = found.setdefault(key, {"protocol": protocol, "names": {}, "rows": []})
                group["names"] |= dict.fromkeys(own)
                group["rows"].append(Row(name=row_name(result, prediction, len(results)), scores=own))
    return [Group(protocol=g["protocol"], names=list(g["names"]), rows=g["rows"]) for g in found.values()]


def _comparable(protocol: Mapping[str, str], results: Sequence[Result], score: Score) -> str:
    """Return a key that protocols share whose scores compare: numbers of images count where they differ, for sets."""
    counts = [result.counts["ok"] for result in results]
    apart = score.on == "sets" and max(counts) > _ALIKE * min(counts)
    return key_of(protocol if apart else {k: v for k, v in protocol.items() if k not in _COUNTS})


def row_name(result: Result, prediction: str, inputs: int) -> str:
    """Return the name of a prediction of one of so many inputs."""
    if inputs == 1:
        return TITLES[prediction]
    return result.name if prediction == TRANSLATION else f"{result.name}, {TITLES[prediction]}"


def best_and_ties(group: Group, name: str) -> tuple[str, frozenset[str]]:
    """Return the row that is best by a score, and those whose difference from it is within noise.

    Both are empty where there are not two values, or all are the same: none is the best then.
    """
    there = [(row.name, row.scores[name]) for row in group.rows if name in row.scores]
    there = [(row, score) for row, score in there if not math.isnan(score.value)]
    if len({score.value for _, score in there}) < 2:
        return "", frozenset()
    sign = -1 if there[0][1].metric.higher_is_better else 1
    best, winner = min(there, key=lambda each: sign * each[1].value)
    ties = [row for row, score in there if row != best and difference_is_noise(score, winner)]
    return best, frozenset(ties)


def tables(results: Sequence[Result]) -> list[Table]:
    """Return one table for each protocol: a row a prediction, and a column a score with its 95% interval.

    The best of a column has a star, and what differs from it by no more than noise, ≈.
    """
    found = []
    for group in groups(results):
        rows = _rows(group)
        found.append(
            Table(
                title=f"Scores of {_ON[next(iter(group.rows[0].scores.values())).on]}",
                columns=["", *(_head(group, name) for name in group.names)],
                rows=rows,
                note=f"{_marks(rows)}Protocol {key_of(group.protocol)}: {in_words(group.protocol)}.",
            )
        )
    return found


def _marks(rows: Sequence[Sequence[str]]) -> str:
    """Return a sentence on each mark that the cells of a table have; empty where they have none."""
    cells = [cell for row in rows for cell in row[1:]]
    said = [words for mark, words in _MARKS.items() if any(mark in cell for cell in cells)]
    return f"{'; '.join(said)}. " if said else ""


def _head(group: Group, name: str) -> str:
    score = next(row.scores[name] for row in group.rows if name in row.scores)
    return f"{score.metric.title} {'↑' if score.metric.higher_is_better else '↓'}"


def _rows(group: Group) -> list[list[str]]:
    marks = {name: best_and_ties(group, name) for name in group.names}
    rows = []
    for row in group.rows:
        cells = [row.name]
        for name in group.names:
            best, ties = marks[name]
            mark = " *" if row.name == best else " ≈" if row.name in ties else ""
            cells.append(shown(row.scores[name]) + mark if name in row.scores else "–")
        rows.append(cells)
    return rows


def shown(score: Score) -> str:
    """Return a score with its interval, as tables have it."""
    digits, unit = score.metric.digits, score.metric.unit
    if math.isnan(score.value):
        return "–"
    if not math.isfinite(score.value) or math.isnan(score.standard_error):
        return f"{score.value:.{digits}f}{unit}"
    aside = (score.interval[1] - score.interval[0]) / 2
    return f"{score.value:.{digits}f} ± {aside:.{digits}f}{unit}"


def moved_geometry(results: Sequence[Result]) -> list[str]:
    """Return a line for each input whose FID is better than another's while its geometry has moved further.

    Both differences must be more than noise. Baselines are compared with, and are not what is judged.
    """
    lines, inputs = [], {row_name(result, TRANSLATION, len(results)) for result in results}
    for group in groups(results):
        fid = next((name for name in group.names if name.startswith("fid_")), "")
        for row in (each for each in group.rows if fid and each.name in inputs):
            structure = _structure_of(results, row.name)
            for other in group.rows:
                beside = _structure_of(results, other.name)
                if not structure or not beside or structure.name != beside.name:
                    continue
                mine, theirs = row.scores[fid], other.scores[fid]
                if (
                    mine.value < theirs.value
                    and structure.value > beside.value
                    and not difference_is_noise(mine, theirs)
                    and not difference_is_noise(structure, beside)
                ):
                    lines.append(
                        f"{row.name} has a lower FID than {other.name} ({mine.value:.3f} against {theirs.value:.3f}), "
                        f"and has moved the geometry further (structure distance {structure.value:.4f} against "
                        f"{beside.value:.4f}): a low FID may have been bought that way"
                    )
    return lines


def _structure_of(results: Sequence[Result], row: str) -> Score | None:
    for result in results:
        for prediction, scores in result.scores.items():
            if row_name(result, prediction, len(results)) == row:
                return next((score for score in scores if score.on == "sources"), None)
    return None


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """Return all scores as JSON has them; numbers that are not finite are text, since JSON has none.

    "results" has those of translations once more, as cards take them (`pipeline/report/dataset/results.py`).
    """
    protocols: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    for result in results:
        protocols |= result.protocols
        inputs[result.name] = {
            "url": result.url,
            "step": result.step,
            "counts": dict(result.counts),
            "not_measured": dict(result.unmeasured),
            "scores": {
                prediction: {score.name: _score(score) for score in scores}
                for prediction, scores in result.scores.items()
            },
        }
    cards = [_for_cards(result, score) for result in results for score in result.scores.get(TRANSLATION, ())]
    return {"protocols": protocols, "inputs": inputs, "results": cards}


def _for_cards(result: Result, score: Score) -> dict[str, Any]:
    protocol = {"dataset": result.url, **result.protocols[score.protocol]}
    value = score.value if math.isfinite(score.value) else None
    return {"metric": score.name, "name": score.metric.title, "value": value, "protocol": protocol}


def _score(score: Score) -> dict[str, Any]:
    low, high = score.interval
    found: dict[str, Any] = {"value": score.value, "low": low, "high": high, "standard_error": score.standard_error}
    if score.on != "sets":
        found |= {"median": score.median, "infinite": score.infinite, "missing": score.missing}
    found = {name: _number(value) for name, value in found.items()}
    return found | {"images": score.images, "protocol": score.protocol}


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def as_csv(results: Sequence[Result]) -> str:
    """Return one line a score, with its protocol."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = ("value", "low", "high", "standard_error", "median", "images", "infinite", "missing", "protocol")
    writer.writerow(["input", "step", "prediction", "score", *names, "in_words"])
    for result in results:
        for prediction, scores in result.scores.items():
            for score in scores:
                found, step = _score(score), "" if result.step is None else f"{result.step:g}"
                cells = [found.get(name, "") for name in names]
                words = in_words(result.protocols[score.protocol])
                writer.writerow([result.name, step, prediction, score.name, *cells, words])
    return buffer.getvalue()


def as_markdown(results: Sequence[Result]) -> str:
    """Return the tables of the comparison, and what is to be said of them."""
    lines = []
    for table in tables(results):
        lines += [
            f"**{_cell(table.title)}** ({_cell(table.note)})",
            "",
            "| " + " | ".join(map(_cell, table.columns)) + " |",
        ]
        lines.append("| --- " * len(table.columns) + "|")
        lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in table.rows] + [""]
    lines += [f"{_cell(line)}\n" for line in moved_geometry(results)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
