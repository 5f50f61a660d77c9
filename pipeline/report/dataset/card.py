"""Dataset card: README.md of an output, for people and for the readers of its head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from gan_models.card import hub_dataset
from pipeline.engine.completion import finish
from pipeline.engine.records.card import head_with
from pipeline.engine.records.layout import Output, form_of_data
from pipeline.engine.records.units import Segment, passed_over
from pipeline.errors import printable
from pipeline.stores.versions import version_at


def dataset_card(
    title: str, sources: Sequence[str], output: Output, segments: Sequence[Segment], manifest: pa.Table | None
) -> str:
    """Return README.md of an output: its sources, and its number of rows once that is known."""
    lines = [f"# {title}", "", f"Made from {', '.join(f'`{printable(source)}`' for source in sources)}."]
    if version := version_at(output.url):
        lines += [f"It is {version}.", ""]
    if manifest is None:
        lines.append("The job has not finished: shards in `data/` are whole, but not all of them are there yet.")
    else:
        total = finish.totals(manifest, segments)
        lines.append(
            f"{total.inputs} inputs{counted_as(segments)}: {total.ok} in `data/`, {total.quarantined} quarantined in "
            f"`_quarantine/` with their reasons, {total.skipped} skipped."
        )
        if total.further:
            lines.append(f"Inputs with several pictures have {total.further} further rows in `data/`.")
        if any(segment.again for segment in segments):
            lines.append(
                "What was quarantined and run again later is counted once, as it is now; `_quarantine/` has both."
            )
    if passed := passed_over(segments):
        lines += ["", "Passed over:", "", *(f"- {printable(line)}" for line in passed)]
    lines += ["", "`python -m jobs.verify --input HERE` proves that nothing is lost or harmed.", ""]
    rows = None if manifest is None else finish.totals(manifest, segments).ok
    features = "" if manifest is None else features_of_data(output, manifest)
    return head_with(head_of(title, sources, rows, features)) + "\n".join(lines)


def head_of(title: str, sources: Sequence[str], rows: int | None, features: str, *, license_id: str = "") -> str:
    """Return what the hub reads in the head of a card, after the list of files, as lines of YAML.

    `rows` is None while nobody knows it. Nobody but a user knows the licence of images: without one, none is named.
    """
    said: dict[str, Any] = {"pretty_name": printable(title)}
    said |= {"license": license_id} if license_id else {}
    said |= {"task_categories": ["image-to-image"], "tags": ["transdomain", "croissant"]}
    if datasets := [name for name in dict.fromkeys(map(hub_dataset, sources)) if name]:
        said["source_datasets"] = datasets
    if rows is not None:
        said["size_categories"] = [size_category(rows)]
    return yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=1_000_000) + features


def size_category(rows: int) -> str:
    """Return the name that the hub has for datasets of so many rows."""
    bounds = [10**power for power in range(3, 13)]
    names = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"]
    place = sum(rows >= bound for bound in bounds)
    if place in (0, len(bounds)):
        return f"n<{names[0]}" if place == 0 else f"n>{names[-1]}"
    return f"{names[place - 1]}<n<{names[place]}"


def features_of_data(output: Output, manifest: pa.Table) -> str:
    """Return features for the head of the card, where the first object that readers come to has no rows."""
    units = finish.with_data(output, manifest).sort_by("data")
    if not len(units) or units["ok"][0].as_py():
        return ""
    some = units.filter(pc.greater(units["ok"], 0))
    name = some["data"][0].as_py() if len(some) else units["data"][0].as_py()
    return form_of_data(name).features(output.at(name))


def counted_as(segments: Sequence[Segment]) -> str:
    """Return a remark on the number of inputs; empty where each of them counts once."""
    return ", each once for every translator" if any(each.recipe.get("translators") for each in segments) else ""
