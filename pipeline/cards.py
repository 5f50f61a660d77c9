"""What stands beside the data for people and for readers: the dataset card and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from pipeline.engine import finish
from pipeline.engine.plan import Segment
from pipeline.engine.record import Output
from pipeline.stores import Store

Cards = Callable[[Sequence[Segment], pa.Table | None], Mapping[str, bytes]]

# The head makes `datasets.load_dataset(OUTPUT)` read data/ alone, from the first shard on: without it the quarantine
# and the plan would be taken for data, too.
_HEAD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/**
---
"""


def store_cards(title: str, source: Store, output: Output) -> Cards:
    """The cards of a job whose output is a store made from `source`."""

    def cards(segments: Sequence[Segment], manifest: pa.Table | None) -> Mapping[str, bytes]:
        return {"README.md": dataset_card(title, source, manifest).encode()}

    return cards


def dataset_card(title: str, source: Store, manifest: pa.Table | None) -> str:
    """README.md of an output: what it is made of, and how many rows it has once that is known."""
    lines = [f"# {title}", "", f"Made from `{source.url}` ({source.rows} rows)."]
    if manifest is None:
        lines.append("The job has not finished: shards in `data/` are whole, but not all of them are there yet.")
    else:
        total = finish.totals(manifest)
        lines.append(
            f"{total.inputs} inputs: {total.ok} in `data/`, {total.quarantined} set aside in `_quarantine/` with their "
            f"reasons, {total.skipped} skipped."
        )
    lines += ["", "`python -m jobs.verify --input HERE` proves that nothing is lost or harmed.", ""]
    return _HEAD + "\n".join(lines)
