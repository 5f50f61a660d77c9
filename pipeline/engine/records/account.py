"""Account of every row of a unit. The data object carries it, and quarantine and commit are derived from it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pyarrow as pa

from pipeline.engine.records.units import Unit
from pipeline.stores.mark import FORMAT_VERSION
from pipeline.stores.tables.schema import IMAGE_TYPE, image_array

FOOTER_KEY = "transdomain"
"""Name of the account in the metadata of a data object."""


CHANGED = "changed"
"""Reason for inputs that are gone, or have changed, since they were planned."""


FATAL = "fatal"
"""Reason for rows that end or hang the process that works on them."""


class Quarantined(NamedTuple):
    """One quarantined row."""

    key: str
    shard: str
    stage: str
    reason: str
    """One of a few fixed words: empty, not an image, too large, corrupt, unsupported format, mode, type or name,
    several pictures, failed, fatal, changed, duplicate
    key; in older outputs also no key."""
    message: str


class Filtered(NamedTuple):
    """One row that was skipped for its scores."""

    key: str
    shard: str
    scores: tuple[tuple[str, float | None], ...]
    """Names and values of its scores; None for one that it does not have."""


Notes = tuple[tuple[str, int], ...]
"""What was noted of images while they were decoded, sorted, with the number of images of which it is true."""


@dataclass(frozen=True)
class Batch:
    """Unit on its way through the stages: the rows that are still good, and the fate of the others."""

    unit: Unit
    rows: pa.Table
    quarantined: tuple[Quarantined, ...] = ()
    skipped: int = 0
    """Number of rows that this output does not want, such as those of another split."""
    pixels: pa.Buffer | None = None
    """Decoded images of the rows, where they travel with them."""
    filtered: tuple[Filtered, ...] = ()
    """Those of the skipped rows that were skipped for their scores."""
    beside: tuple[Unit, ...] = ()
    """Units of other parts that are to be made of the same rows, until a stage makes a batch for each."""
    notes: Notes = ()
    further: int = 0
    """Number of rows beyond the first of an input that has become several."""


def noted(counted: Mapping[str, int]) -> Notes:
    """Return counts by note as a batch and an account hold them."""
    return tuple(sorted((note, count) for note, count in counted.items() if count))


def notes_together(each: Iterable[Notes]) -> Notes:
    """Return the sums of counts by note."""
    total = Counter[str]()
    for notes in each:
        total.update(dict(notes))
    return noted(total)


Made = Batch | Sequence[Batch]
"""Result of a stage: a batch, or one for each unit that is made of the same rows."""


def batches_of(made: Made) -> Sequence[Batch]:
    """Return the batches in the result of a stage."""
    return [made] if isinstance(made, Batch) else made


def joined(whole: Batch, parts: Sequence[Batch]) -> Batch:
    """Return a batch with the rows of its parts, in order, and what became of the others before and in them."""
    return replace(
        whole,
        rows=pa.concat_tables([part.rows for part in parts]),
        quarantined=(*whole.quarantined, *(row for part in parts for row in part.quarantined)),
        skipped=whole.skipped + sum(part.skipped for part in parts),
        pixels=None,
        filtered=(*whole.filtered, *(row for part in parts for row in part.filtered)),
        notes=notes_together([whole.notes, *(part.notes for part in parts)]),
        further=whole.further + sum(part.further for part in parts),
    )


@dataclass(frozen=True)
class Account:
    """Counts of a unit's rows: ok + quarantined + skipped = inputs + further.

    Attempts at a unit do not differ in it, except for a last bit of scores on another machine.
    """

    unit: str
    fingerprint: str
    inputs: int
    ok: int
    skipped: int
    quarantined: tuple[Quarantined, ...] = field(default=())
    filtered: tuple[Filtered, ...] = field(default=())
    notes: Notes = ()
    further: int = 0
    """Number of rows beyond the first of an input that has become several."""

    def __post_init__(self) -> None:
        if self.ok + len(self.quarantined) + self.skipped != self.inputs + self.further or self.further < 0:
            more = f" and {self.further} further rows of them" if self.further else ""
            raise ValueError(
                f"unit {self.unit} does not add up: {self.ok} ok + {len(self.quarantined)} quarantined + "
                f"{self.skipped} skipped are not {self.inputs} inputs{more}"
            )
        if len(self.filtered) > self.skipped:
            raise ValueError(f"unit {self.unit}: {len(self.filtered)} were filtered, and only {self.skipped} skipped")

    @property
    def of_quarantine(self) -> Account:
        """Return the account as the quarantine has it: without notes, and scores, which may differ in a last bit."""
        return replace(self, filtered=(), notes=())


def account_of(batch: Batch, fingerprint: str) -> Account:
    """Return the account of a finished batch. Raises ValueError where a row was lost or duplicated on the way."""
    quarantined = tuple(sorted(batch.quarantined))
    filtered = tuple(sorted(batch.filtered, key=lambda row: (row.key, row.shard)))
    return Account(
        batch.unit.id, fingerprint, batch.unit.rows, len(batch.rows), batch.skipped, quarantined, filtered, batch.notes,
        batch.further,
    )  # fmt: skip


def encode_account(account: Account) -> str:
    """Encode as canonical JSON: equal accounts are equal strings."""
    fields = {
        "format": FORMAT_VERSION,
        "unit": account.unit,
        "fingerprint": account.fingerprint,
        "counts": counts(account),
        "rejected": [row._asdict() for row in account.quarantined],
    }
    if account.filtered:
        fields["filtered"] = [[row.key, row.shard, dict(row.scores)] for row in account.filtered]
    if account.notes:
        fields["notes"] = dict(account.notes)
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def decode_account(text: str) -> Account:
    """Invert `encode_account`. Raises ValueError for a format that this version does not know."""
    fields = json.loads(text)
    if fields["format"] != FORMAT_VERSION:
        raise ValueError(f"an account of format {fields['format']}; this version reads format {FORMAT_VERSION}")
    counted = fields["counts"]
    quarantined = tuple(Quarantined(**row) for row in fields["rejected"])
    filtered = tuple(Filtered(key, shard, tuple(scores.items())) for key, shard, scores in fields.get("filtered", ()))
    return Account(
        fields["unit"],
        fields["fingerprint"],
        counted["inputs"],
        counted["ok"],
        counted["skipped"],
        quarantined,
        filtered,
        noted(fields.get("notes", {})),
        counted.get(FURTHER, 0),
    )


COUNTS = ("inputs", "ok", "quarantined", "skipped")
"""Names of the four numbers that must add up."""
FURTHER = "further"
"""Name of the number of further rows, where there are any: inputs + further = ok + quarantined + skipped."""


def counts(account: Account) -> dict[str, int]:
    """Return the numbers that must add up."""
    return {
        "inputs": account.inputs,
        "ok": account.ok,
        "quarantined": len(account.quarantined),
        "skipped": account.skipped,
        **({FURTHER: account.further} if account.further else {}),
    }


def quarantine_rows(account: Account) -> pa.Table:
    """Return the quarantined rows in the form of a store, so that they can be browsed like one."""
    rows = account.quarantined
    columns = {name: pa.array([getattr(r, name) for r in rows], pa.string()) for name in Quarantined._fields}
    columns["source_shard"] = columns.pop("shard")
    columns["image"] = image_array([None] * len(rows), [r.key.rsplit("/", 1)[-1] for r in rows]).cast(IMAGE_TYPE)
    return pa.table(columns)
