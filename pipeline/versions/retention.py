"""Retention of versions: the data of all but the newest ones of each slot, or of the whole output, is given up."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.engine.completion.giving_up import data_of, delete_given_up, record_given_up
from pipeline.engine.records.card import publish_card
from pipeline.engine.records.layout import Output, load_segments
from pipeline.engine.records.units import Segment
from pipeline.report.dataset.croissant import publish_croissant
from pipeline.stores import versions


@dataclass(frozen=True, kw_only=True)
class Old:
    """Segment of a version that is no longer kept, and whose data is still there."""

    output: Output
    version: int
    segment: Segment
    objects: int
    size: int
    """Bytes of these objects."""

    def __str__(self) -> str:
        what = f"version {self.version}{versions.of_slots([self.segment.label])}"
        return f"{what}: {self.objects} objects in {self.output.at('data')} ({self.size / 1e6:.1f} MB)"


def old_data(url: str, keep: int) -> list[Old]:
    """Return the data of all versions but the newest `keep` whole ones of each label; at least one is kept.

    A version that was never finished, and is older than one that is read, is among it.
    """
    begun, whole = versions.begun(url), set(versions.marks(url))
    newest = dict[str, list[int]]()
    for version in begun:
        for label in version.labels if version.number in whole else ():
            newest.setdefault(label, [1]).append(version.number)
    found = list[Old]()
    for number in [1, *(version.number for version in begun)]:
        output = Output(versions.root_of(url, number))
        segments = [s for s in load_segments(output) if number < _least_kept(newest.get(s.label, [1]), keep)]
        left = data_of(output, [segment.number for segment in segments]) if segments else {}
        found += [
            Old(
                output=output,
                version=number,
                segment=segment,
                objects=len(left[segment.number]),
                size=sum(entry.size for entry in left[segment.number]),
            )
            for segment in segments
            if segment.number in left
        ]
    return found


def _least_kept(numbers: list[int], keep: int) -> int:
    """Return the lowest number of the versions of a label that are kept; `numbers` ascend, and are of whole ones."""
    return numbers[-keep:][0]


def go_on(url: str) -> None:
    """Finish deletions that were recorded and then killed, in all versions of an output."""
    for number in [1, *versions.numbers(url)]:
        version = Output(versions.root_of(url, number))
        delete_given_up(version)
        if version.retired_segments():
            publish_croissant(version)
    if versions.marks(url):
        publish_card(Output(url))
        publish_croissant(Output(url))


def give_up(url: str, old: list[Old]) -> None:
    """Delete this data; plans, commits and quarantine stay, so that each version's inputs stay accounted for."""
    outputs = {each.version: each.output for each in old}
    for version, output in outputs.items():
        record_given_up(output, [each.segment for each in old if each.version == version])
    for output in outputs.values():
        delete_given_up(output)
    publish_card(Output(url))
    for output in {each.url: each for each in (*outputs.values(), Output(url))}.values():
        publish_croissant(output)
