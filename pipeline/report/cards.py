"""Dataset card, Croissant metadata and report, which stand next to the data for people and for readers."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.engine.again import keys_run_again
from pipeline.engine.completion import finish
from pipeline.engine.estimate.outcome import Came, Counted, outcome
from pipeline.engine.estimate.prices import NO_PRICES, Prices
from pipeline.engine.estimate.tables import outcome_rows
from pipeline.engine.records.card import with_versions
from pipeline.engine.records.layout import CARD, Output
from pipeline.engine.records.units import Segment, passed_over, segment_of
from pipeline.models.arithmetic import Arithmetic, Figures
from pipeline.recipe import models_of
from pipeline.report.content import QuarantineLine, Report, Table
from pipeline.report.dataset.card import counted_as, dataset_card
from pipeline.report.dataset.croissant import CROISSANT, croissant
from pipeline.report.html import render_report
from pipeline.report.ranking import rank
from pipeline.report.samples import SHEET_ROWS, first_rows_of, ranked_rows, sample_sheet, sheet_columns
from pipeline.scores.names import SCORES
from pipeline.stores import Store
from pipeline.stores.forms import shard
from pipeline.stores.versions import version_at

log = logging.getLogger("transdomain")

Cards = Callable[[Sequence[Segment], pa.Table | None, Counted | None], finish.Derived]

MOST_QUARANTINE_LINES = 200
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

    urls = [source.url for source in sources]

    def cards(segments: Sequence[Segment], manifest: pa.Table | None, ran: Counted | None) -> finish.Derived:
        made: dict[str, Callable[[], bytes]] = {
            CARD: lambda: with_versions(output, dataset_card(title, urls, output, segments, manifest).encode())
        }
        if manifest is not None:
            made[CROISSANT] = lambda: croissant(title, output, segments, manifest)
            made["_transdomain/report.html"] = lambda: render_report(
                output_report(title, sources, output, segments, manifest, input_column, ran, said)
            ).encode()
        return made

    return cards


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
    shown = ranked_rows(output, ranking) if ranking and ranking.picked else first_rows_of(output, newest)
    return Report(
        title=title,
        status="complete",
        subtitle=output.url,
        facts=[
            ("inputs", f"{total.inputs:,}{counted_as(segments)}"),
            ("ok", f"{total.ok:,}"),
            ("quarantined", f"{total.quarantined:,}"),
            ("skipped", f"{total.skipped:,}"),
            *([("run again", f"{len(again):,} inputs that were quarantined")] if again else []),
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
            *([Table(title=why, columns=["reason", "images"], rows=counted)] if counted else []),
        ],
        sheet_png=sample_sheet(output, shown, sheet_columns(sources), input_column),
        quarantine=lines,
        quarantine_total=total.quarantined,
    )


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
