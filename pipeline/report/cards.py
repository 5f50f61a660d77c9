"""Cards of an output: what a job writes besides data, for people and for other tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from pipeline.engine.completion import finish
from pipeline.engine.estimate.outcome import Count
from pipeline.engine.records.card import with_versions
from pipeline.engine.records.layout import CARD, Output
from pipeline.engine.records.units import Segment
from pipeline.report.dataset.card import dataset_card
from pipeline.report.dataset.croissant import CROISSANT, croissant
from pipeline.report.html import render_report
from pipeline.report.outputs import output_report
from pipeline.stores import Store

Cards = Callable[[Sequence[Segment], pa.Table | None, Count | None], finish.Derived]


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

    def cards(segments: Sequence[Segment], manifest: pa.Table | None, ran: Count | None) -> finish.Derived:
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
