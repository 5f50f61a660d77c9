"""Dataset card and report, which stand next to the data for people and for readers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.engine.completion import finish
from pipeline.engine.estimate.outcome import Counted
from pipeline.engine.records.card import head_with, with_versions
from pipeline.engine.records.layout import CARD, Output, form_of_data
from pipeline.engine.records.units import Segment, passed_over
from pipeline.errors import printable
from pipeline.report.html import render_report
from pipeline.report.outputs import output_report
from pipeline.stores import Store
from pipeline.stores.versions import version_at

Cards = Callable[[Sequence[Segment], pa.Table | None, Counted | None], finish.Derived]


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


def _counted_as(segments: Sequence[Segment]) -> str:
    """Return a remark on the number of inputs; empty where each of them counts once."""
    return ", each once for every translator" if any(each.recipe.get("translators") for each in segments) else ""
