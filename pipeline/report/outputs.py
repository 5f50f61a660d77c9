"""Report of a finished output, from its plan and its manifest: pack, translate and augment have the same one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import command
from pipeline.engine.again import keys_run_again
from pipeline.engine.completion import finish
from pipeline.engine.estimate.outcome import Came, Count, outcome
from pipeline.engine.estimate.prices import NO_PRICES, Prices
from pipeline.engine.estimate.tables import NOT_KNOWN, outcome_rows, size_text
from pipeline.engine.executors.progress import duration
from pipeline.engine.records.layout import Output
from pipeline.engine.records.units import Segment, passed_over
from pipeline.models.arithmetic import Arithmetic, Figures
from pipeline.recipe import flat, models_of
from pipeline.report import quarantine
from pipeline.report.content import Report, Table
from pipeline.report.ranking import rank
from pipeline.report.samples import sample_galleries
from pipeline.report.throughput import of_last_run, seconds_at_work, throughput_charts
from pipeline.scores.names import SCORES
from pipeline.stores import Store, image_columns
from pipeline.stores.versions import version_at

MOST_PICKED = 8
"""Rows, the best and the worst, that are shown for a score."""
_MOST_HOSTS = 8


def output_report(
    title: str,
    sources: Sequence[Store],
    output: Output,
    segments: Sequence[Segment],
    manifest: pa.Table,
    input_column: str | None,
    ran: Count | None = None,
    said: Sequence[tuple[str, str]] = (),
) -> Report:
    """Return the report of a finished output.

    `input_column` names the column that a translation was made from, `ran` counts what the run that ends has used,
    `said` are further facts.
    """
    total, again = finish.totals(manifest, segments), keys_run_again(output, segments)
    found = quarantine.look([output.at(name) for name in pc.drop_null(manifest["quarantine"]).to_pylist()], again)
    newest, recipe, ran_together = _newest(output, manifest), segments[-1].recipe, of_last_run(segments, manifest)
    scored = [recipe, *models_of(recipe).values()]
    scores = [name for name in SCORES if any(name in each.get("score", ()) for each in scored)]
    ranking = rank(output, newest, scores, MOST_PICKED) if scores else None
    galleries = sample_galleries(output, newest, ranking.picked if ranking else (), sources, input_column)
    column = input_column or next((c for store in sources for c in image_columns(store.schema)), None)
    pictures = quarantine.pictures_of(output, found, column)
    # After all that is read for the report, so that it counts.
    counted = ran() if ran else None
    came = outcome(segments, manifest, lambda: counted, output.files_size)
    return Report(
        title=title,
        status="complete",
        subtitle=output.url,
        facts=[
            ("inputs", f"{total.inputs:,}"),
            ("ok", f"{total.ok:,}"),
            ("quarantined", f"{total.quarantined:,}"),
            ("skipped", f"{total.skipped:,}"),
            *([("run again", f"{len(again):,} inputs that were quarantined")] if again else []),
            *([("further rows", f"{total.further:,}, of inputs with several pictures")] if total.further else []),
            ("written", size_text(pc.sum(manifest["data_size"], min_count=0).as_py())),
            *_pace(ran_together, segments[-1].label),
            *_goodput(came),
        ],
        notes=[*_notes(segments, recipe), *(f"{name}: {fact}" for name, fact in said)],
        galleries=galleries,
        charts=[*(ranking.charts if ranking else ()), *throughput_charts(ran_together, segments[-1].label)],
        tables=[*_expected(came, counted.prices if counted else NO_PRICES), *_noted(manifest)],
        quarantine=found.lines,
        quarantine_total=total.quarantined,
        reasons=found.reasons,
        quarantine_pictures=pictures,
        provenance=list(_provenance(output, sources, segments, manifest)),
        settings=[(name, str(value)) for name, value in flat(recipe).items()],
        command=command.line(),
    )


def _noted(manifest: pa.Table) -> Iterator[Table]:
    """Yield a table of what was noted of images while they were decoded, where anything was."""
    if notes := sorted(finish.notes_of(manifest), key=lambda each: -each[1]):
        rows = [[note, f"{count:,}"] for note, count in notes]
        yield Table(title="Noted of images while they were decoded", columns=["of an image", "images"], rows=rows)


def _pace(units: pa.Table, label: str) -> Iterator[tuple[str, str]]:
    """Yield the time that these units took, and their images a second."""
    if seconds := seconds_at_work(units):
        of = f" of slot {label}" if label else ""
        yield f"time at work{of}", duration(seconds) if seconds >= 10 else f"{seconds:.2g} s"
        yield f"throughput{of}", f"{pc.sum(units['inputs']).as_py() / seconds:.3g} images/s"


def _goodput(came: Came | None) -> Iterator[tuple[str, str]]:
    """Yield the share of the devices' dense rate that went into the images, where that is known."""
    if came and came.goodput is not None:
        yield "goodput", f"{came.goodput:.1%} of {came.dense}"


def _notes(segments: Sequence[Segment], recipe: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a reader of the numbers has to know."""
    if any(segment.recipe.get("translators") for segment in segments):
        yield "Each input counts once for every translator."
    if recipe.get("geometry"):
        yield f"Geometry that has followed its picture: {_followed(recipe)}."
    if recipe.get("keep_if"):
        yield f"Translations were kept if {recipe['keep_if']}; the others count as skipped."
    yield from (f"Passed over: {line}." for line in passed_over(segments))


def _followed(recipe: Mapping[str, Any]) -> str:
    """Return in words which columns have followed their picture, and of which picture they were taken to be."""
    columns = ", ".join(f"{name} ({kind})" for name, kind in recipe["geometry"].items())
    frame = "before EXIF turns them" if recipe["geometry_frame"] == "stored" else "after EXIF has turned them"
    return f"{columns}, taken as places in the pictures {frame}"


def _expected(came: Came | None, prices: Prices) -> Iterator[Table]:
    """Yield a table of what the plan expected and what came, where it expected anything."""
    if came:
        rows = outcome_rows(came, prices)
        body = [["–" if cell == NOT_KNOWN else cell for cell in row] for row in rows.body if row[0] != "goodput"]
        said = [rows.note[:1].upper() + rows.note[1:], *_not_foreseen(body)]
        if came.goodput is None:
            said.append(f"Goodput is not known: {came.dense}")
        note = "".join(f"{each}. " for each in said if each).rstrip()
        columns = ["", *rows.head[1:-1], "difference"]
        if not any(row[-1] for row in body):
            columns, body = columns[:-1], [row[:-1] for row in body]
        yield Table(title="Expected and made", columns=columns, rows=body, note=note)


def _not_foreseen(body: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a sentence on what nobody has tried out before, and so was not expected."""
    if any(row[1] == "–" for row in body):
        yield "– was not foreseen: --sample 32 tries some images out before the run"


def _provenance(
    output: Output, sources: Sequence[Store], segments: Sequence[Segment], manifest: pa.Table
) -> Iterator[tuple[str, str]]:
    """Yield what the output was made from and with."""
    segment = segments[-1]
    for source in sources:
        yield "source", source.url
    for name, model in models_of(segment.recipe).items():
        of = f" of {name}" if name else ""
        yield f"model{of}", f"sha256 {model['model']}, {model['direction']}"
        yield f"arithmetic{of}", str(Arithmetic(**model["arithmetic"]))
        if figures := segment.measured.get(name, {}) if name else segment.measured:
            yield f"measured{of}", str(Figures(**figures))
    if "seed" in segment.recipe:
        yield "seed", str(segment.recipe["seed"])
    if versions := segment.recipe.get("versions"):
        yield "versions", ", ".join(f"{name} {number}" for name, number in versions.items())
    if version := version_at(output.url):
        yield "version of the output", str(version)
    hosts = sorted(set(manifest["host"].to_pylist()))
    more = f" and {len(hosts) - _MOST_HOSTS:,} more" if len(hosts) > _MOST_HOSTS else ""
    yield "machines", ", ".join(map(str, hosts[:_MOST_HOSTS])) + more
    yield "units", f"{len(manifest):,} in {len(segments):,} plan segment{'s' if len(segments) > 1 else ''}"


def _newest(output: Output, manifest: pa.Table) -> pa.Table:
    """Return the units with rows of the last segment that has any; those whose data was deleted are left out."""
    made = finish.with_data(output, manifest)
    made = made.filter(pc.greater(made["ok"], 0))
    return made.filter(pc.starts_with(made["unit"], made["unit"][-1].as_py().split("-")[0])) if len(made) else made
