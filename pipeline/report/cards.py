"""Dataset card and report, which stand next to the data for people and for readers."""

from __future__ import annotations

import itertools
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import images, storage
from pipeline.engine.again import keys_run_again
from pipeline.engine.completion import finish
from pipeline.engine.estimate.outcome import Came, Counted, outcome
from pipeline.engine.estimate.prices import NO_PRICES, Prices
from pipeline.engine.estimate.tables import outcome_rows
from pipeline.engine.records.card import head_with, with_versions
from pipeline.engine.records.layout import CARD, Output, form_of_data, load_unit
from pipeline.engine.records.units import Segment, passed_over, segment_of
from pipeline.errors import StorageError, printable
from pipeline.models.arithmetic import Arithmetic, Figures
from pipeline.recipe import models_of
from pipeline.report.contact_sheet import contact_sheet, fitted
from pipeline.report.content import QuarantineLine, Report, Table
from pipeline.report.html import render_report
from pipeline.report.ranking import Picked, Ranking, rank
from pipeline.scores.names import SCORES
from pipeline.stores import SourceChangedError, Store, image_columns, read_rows
from pipeline.stores.forms import shard
from pipeline.stores.tables.ranges import first_rows
from pipeline.stores.versions import version_at

log = logging.getLogger("transdomain")

Cards = Callable[[Sequence[Segment], pa.Table | None, Counted | None], finish.Derived]

MOST_QUARANTINE_LINES = 200
SHEET_ROWS = 12
_THREADS = 8


def store_cards(
    title: str,
    sources: Sequence[Store],
    output: Output,
    *,
    input_column: str | None = None,
    said: Sequence[tuple[str, str]] = (),
) -> Cards:
    """Return the cards of a job whose output is a store made from `sources`.

    `input_column` names the column that a translation was made from; the report shows it next to the translation.
    `said` are names and values of further facts for the report.
    """

    def cards(segments: Sequence[Segment], manifest: pa.Table | None, ran: Counted | None) -> finish.Derived:
        made: dict[str, Callable[[], bytes]] = {
            CARD: lambda: with_versions(output, dataset_card(title, sources, output, segments, manifest).encode())
        }
        if manifest is not None:
            made["_transdomain/report.html"] = lambda: render_report(
                output_report(title, sources, output, segments, manifest, input_column, ran, said)
            ).encode()
        return made

    return cards


def dataset_card(
    title: str, sources: Sequence[Store], output: Output, segments: Sequence[Segment], manifest: pa.Table | None
) -> str:
    """Return README.md of an output: its sources, and its number of rows once that is known."""
    lines = [f"# {title}", "", f"Made from {', '.join(f'`{printable(source.url)}`' for source in sources)}."]
    if version := version_at(output.url):
        lines += [f"It is {version}.", ""]
    if manifest is None:
        lines.append("The job has not finished: shards in `data/` are whole, but not all of them are there yet.")
    else:
        total = finish.totals(manifest, segments)
        lines.append(
            f"{total.inputs} inputs{_counted_as(segments)}: {total.ok} in `data/`, {total.quarantined} quarantined in "
            f"`_quarantine/` with their reasons, {total.skipped} skipped."
        )
        if any(segment.again for segment in segments):
            lines.append(
                "What was quarantined and run again later is counted once, as it is now; `_quarantine/` has both."
            )
    if passed := passed_over(segments):
        lines += ["", "Passed over:", "", *(f"- {printable(line)}" for line in passed)]
    lines += ["", "`python -m jobs.verify --input HERE` proves that nothing is lost or harmed.", ""]
    return head_with(_features(output, manifest) if manifest is not None else "") + "\n".join(lines)


def _features(output: Output, manifest: pa.Table) -> str:
    """Return features for the head of the card, where the first object that readers come to has no rows."""
    units = finish.with_data(output, manifest).sort_by("data")
    if not len(units) or units["ok"][0].as_py():
        return ""
    some = units.filter(pc.greater(units["ok"], 0))
    name = some["data"][0].as_py() if len(some) else units["data"][0].as_py()
    return form_of_data(name).features(output.at(name))


def output_report(
    title: str,
    sources: Sequence[Store],
    output: Output,
    segments: Sequence[Segment],
    manifest: pa.Table,
    input_column: str | None,
    ran: Counted | None = None,
    said: Sequence[tuple[str, str]] = (),
) -> Report:
    """Return the report of a finished output: counts, quarantined inputs and reasons, and a few of its images."""
    total = finish.totals(manifest, segments)
    shards = pc.drop_null(manifest["quarantine"]).to_pylist()
    again = keys_run_again(output, segments)
    lines = list(itertools.islice(quarantine_lines(map(output.at, shards), again), MOST_QUARANTINE_LINES))
    reasons = Counter(line.reason for line in lines)
    counted = [[reason, str(number)] for reason, number in reasons.most_common()]
    why = "Why" if len(lines) == total.quarantined else f"Why, of the first {len(lines)}"
    size = pc.sum(manifest["data_size"], min_count=0).as_py()
    newest, recipe = _newest(output, manifest), segments[-1].recipe
    scored = [recipe, *models_of(recipe).values()]
    scores = [name for name in SCORES if any(name in each.get("score", ()) for each in scored)]
    ranking = rank(output, newest, scores, SHEET_ROWS) if scores else None
    shown = _ranked(output, ranking) if ranking and ranking.picked else _first_rows(output, newest)
    return Report(
        title=title,
        status="complete",
        subtitle=output.url,
        facts=[
            ("inputs", f"{total.inputs:,}{_counted_as(segments)}"),
            ("ok", f"{total.ok:,}"),
            ("quarantined", f"{total.quarantined:,}"),
            ("skipped", f"{total.skipped:,}"),
            *([("run again", f"{len(again):,} inputs that were quarantined")] if again else []),
            *([("further rows", f"{total.further:,}, of inputs with several pictures")] if total.further else []),
            ("units", f"{total.units:,}"),
            ("written", f"{size / 1e6:,.1f} MB"),
            ("source", ", ".join(source.url for source in sources)),
            *([("version", str(version))] if (version := version_at(output.url)) else []),
            *_arithmetic(segments[-1]),
            *([("geometry", _followed(recipe))] if recipe.get("geometry") else []),
            *([("kept if", recipe["keep_if"])] if recipe.get("keep_if") else []),
            *said,
            *(("passed over", line) for line in passed_over(segments)),
        ],
        tables=[
            *_outcome(outcome(segments, manifest, lambda: ran, output.files_size), ran.prices if ran else NO_PRICES),
            *([ranking.table] if ranking else []),
            *_noted(manifest),
            *([Table(title=why, columns=["reason", "images"], rows=counted)] if counted else []),
        ],
        sheet_png=_sample_sheet(output, shown, _columns(sources), input_column),
        quarantine=lines,
        quarantine_total=total.quarantined,
    )


def _counted_as(segments: Sequence[Segment]) -> str:
    """Return a remark on the number of inputs; empty where each of them counts once."""
    return ", each once for every translator" if any(each.recipe.get("translators") for each in segments) else ""


def _followed(recipe: Mapping[str, Any]) -> str:
    """Return in words which columns have followed their picture, and of which picture they were taken to be."""
    columns = ", ".join(f"{name} ({kind})" for name, kind in recipe["geometry"].items())
    frame = "before EXIF turns them" if recipe["geometry_frame"] == "stored" else "after EXIF has turned them"
    return f"{columns}, taken as places in the pictures {frame}"


def _outcome(came: Came | None, prices: Prices) -> Iterator[Table]:
    """Yield a table of what the plan expected and what came, where it expected anything."""
    if came:
        rows = outcome_rows(came, prices)
        title = f"Expected and made ({rows.note})" if rows.note else "Expected and made"
        yield Table(title=title, columns=["", *rows.head[1:]], rows=rows.body)


def _noted(manifest: pa.Table) -> Iterator[Table]:
    """Yield a table of what was noted of images while they were decoded, where anything was."""
    if notes := sorted(finish.notes_of(manifest), key=lambda each: -each[1]):
        rows = [[note, f"{count:,}"] for note, count in notes]
        yield Table(title="Noted of images while they were decoded", columns=["of an image", "images"], rows=rows)


def _arithmetic(segment: Segment) -> Iterator[tuple[str, str]]:
    """Yield the arithmetic of each model of a segment in words, and the figures by which it was chosen."""
    for name, model in models_of(segment.recipe).items():
        of = f" of {name}" if name else ""
        yield f"arithmetic{of}", str(Arithmetic(**model["arithmetic"]))
        if figures := segment.measured.get(name, {}) if name else segment.measured:
            yield f"measured{of}", str(Figures(**figures))


def quarantine_lines(urls: Iterable[str], again: Mapping[str, int] = MappingProxyType({})) -> Iterator[QuarantineLine]:
    """Yield every row of these quarantine shards, in their order; a few shards are read before they are asked for.

    Rows are left out whose key is in a later segment of those that were run `again`.
    """

    def read(url: str) -> list[QuarantineLine]:
        rows = shard.read_columns(url, ["key", "stage", "reason", "message"]).to_pylist()
        segment = segment_of(url.rpartition("/")[2]) if again else 0
        return [QuarantineLine(**row) for row in rows if again.get(row["key"], -1) <= segment]

    for lines in storage.ahead(read, urls, _THREADS):
        yield from lines


def _newest(output: Output, manifest: pa.Table) -> pa.Table:
    """Return the units with rows of the last segment that has any; those whose data was deleted are left out."""
    made = finish.with_data(output, manifest)
    made = made.filter(pc.greater(made["ok"], 0))
    return made.filter(pc.starts_with(made["unit"], made["unit"][-1].as_py().split("-")[0])) if len(made) else made


class _Shown(NamedTuple):
    """Rows of a unit that the sheet shows."""

    made: Mapping[str, Any]
    """The unit's row of the manifest."""
    rows: pa.Table
    captions: Mapping[int, str]
    """Captions of these rows, by their places on the sheet, in the order of the rows."""
    first: int
    """Number of the unit's first inputs among which those of the rows are."""


def _columns(sources: Sequence[Store]) -> list[str]:
    """Return the columns of an output that the sheet needs, where they are there."""
    of_sources = {column for store in sources for column in image_columns(store.schema)}
    return ["key", "source_key", *dict.fromkeys(["image", "image_a", "image_b", *sorted(of_sources)])]


def _first_rows(output: Output, units: pa.Table) -> Callable[[Sequence[str]], Iterator[_Shown]]:
    """Return a function that yields, with these columns, the first rows of the first units of each part."""

    def shown(names: Sequence[str]) -> Iterator[_Shown]:
        parts = {data.rpartition("/")[0] for data in units["data"].to_pylist()}
        left = Counter(dict.fromkeys(parts, -(-SHEET_ROWS // max(len(parts), 1))))
        places = itertools.count()
        for made in (row for batch in units.to_batches(SHEET_ROWS) for row in batch.to_pylist()):
            if not any(left.values()):
                break
            part = made["data"].rpartition("/")[0]
            if not left[part] or not made["data"].startswith("data/"):
                continue
            rows = finish.read_made(output, made, names, first=left[part])
            if rows is None:
                continue
            left[part] -= len(rows)
            # Rows keep their order, so these come from the same number of first inputs, plus those that are not among
            # the rows.
            first = len(rows) + made["quarantined"] + made["skipped"]
            captions = {next(places): str(key) for key in rows["key"].to_pylist()}
            yield _Shown(made, rows, captions, first)

    return shown


def _ranked(output: Output, ranking: Ranking) -> Callable[[Sequence[str]], Iterator[_Shown]]:
    """Return a function that yields, with these columns, the best and the worst rows."""

    def shown(names: Sequence[str]) -> Iterator[_Shown]:
        of_unit = defaultdict[str, dict[int, Picked]](dict)
        for place, picked in enumerate(ranking.picked):
            of_unit[picked.unit["unit"]][place] = picked
        for chosen in of_unit.values():  # each unit is read once
            made = next(iter(chosen.values())).unit
            rows = finish.read_made(output, made, names)
            if rows is not None:
                rows = rows.take([picked.place for picked in chosen.values()])
                keys = zip(chosen.items(), rows["key"].to_pylist(), strict=True)
                captions = {place: f"{picked.caption}: {key}" for (place, picked), key in keys}
                yield _Shown(made, rows, captions, made["inputs"])

    return shown


def _sample_sheet(
    output: Output,
    shown: Callable[[Sequence[str]], Iterator[_Shown]],
    names: Sequence[str],
    input_column: str | None,
) -> bytes | None:
    """Return a sheet of rows of an output; next to a translation, its input."""
    samples = dict[int, tuple[str, list[np.ndarray]]]()
    columns: list[str] = []
    for made, rows, captions, first in shown(names):
        columns = columns or image_columns(rows.schema)
        made_from = _sources(output, made["unit"], input_column, first, rows)
        for row, (place, caption) in zip(rows.to_pylist(), captions.items(), strict=True):
            cells = [row.get(c) for c in columns]
            if input_column is not None:
                cells = [{"bytes": made_from.get(row.get("source_key"))}, *cells]
            samples[place] = (caption, [_picture(value) for value in cells])
    if not columns:
        return None
    titles = {"image": "translation" if input_column else "image", "image_a": "A", "image_b": "B"}
    heads = ([f"input ({input_column})"] if input_column else []) + [titles.get(c, c) for c in columns]
    in_order = [samples[place] for place in sorted(samples)]
    return contact_sheet(heads, [p for _, p in in_order], captions=[caption for caption, _ in in_order])


def _picture(value: Mapping[str, Any] | None) -> np.ndarray:
    """Return the image in a cell of an image column, as large as it is shown; a grey one where there is none."""
    try:
        return fitted(images.decode(images.encoded_in(value), wanted=None, pages="first").pixels)
    except images.BadImage:
        return np.full((48, 48, 3), 200, np.uint8)


def _sources(output: Output, unit: str, input_column: str | None, first: int, shown: pa.Table) -> dict[str, Any]:
    """Return, by source key, the inputs of a unit's rows that are shown; only its `first` inputs are searched."""
    if input_column is None:
        return {}
    wanted = set(shown["source_key"].to_pylist())
    try:
        rows = read_rows(first_rows(load_unit(output, unit).ranges, first), [input_column], wants=wanted.__contains__)
    except (SourceChangedError, StorageError) as error:
        # The translations are complete: an image in the report is no reason to fail.
        log.info("%s: the report shows no inputs: %s", output.url, error)
        return {}
    return {row["key"]: (row[input_column] or {}).get("bytes") for row in rows.to_pylist()}
