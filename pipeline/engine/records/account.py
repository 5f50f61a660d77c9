"""What became of every row of a unit: the account that its data object carries, and what is derived from it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from pipeline.engine.records.units import Unit
from pipeline.stores.mark import FORMAT_VERSION
from pipeline.stores.schema import IMAGE_TYPE, image_array

FOOTER_KEY = "transdomain"
"""Name of the account in the metadata of a data object."""


CHANGED = "changed"
"""The reason of inputs that are gone, or are others, since they were planned."""


NO_KEY = "no key"
"""The reason of inputs whose key is null; shard and number of their row stand for it."""


class Rejected(NamedTuple):
    """One row that was set aside."""

    key: str
    shard: str
    stage: str
    reason: str
    """One of a few words: empty, not an image, too large, corrupt, unsupported mode or name, failed, changed, no key,
    duplicate key."""
    message: str


@dataclass(frozen=True)
class Batch:
    """A unit on its way through the stages: the rows that are still good, and what happened to the others."""

    unit: Unit
    rows: pa.Table
    rejected: tuple[Rejected, ...] = ()
    skipped: int = 0
    """Rows that this output does not want, such as those of another split."""


@dataclass(frozen=True)
class Account:
    """ok + quarantined + skipped = inputs. Nothing in it differs between attempts."""

    unit: str
    fingerprint: str
    inputs: int
    ok: int
    skipped: int
    rejected: tuple[Rejected, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.ok + len(self.rejected) + self.skipped != self.inputs:
            raise ValueError(
                f"unit {self.unit} does not add up: {self.ok} ok + {len(self.rejected)} quarantined + "
                f"{self.skipped} skipped are not {self.inputs} inputs"
            )


def account_of(batch: Batch, fingerprint: str) -> Account:
    """The account of a finished batch. Raises ValueError where a row was lost or doubled on the way."""
    rejected = tuple(sorted(batch.rejected))
    return Account(batch.unit.id, fingerprint, batch.unit.rows, len(batch.rows), batch.skipped, rejected)


def encode_account(account: Account) -> str:
    """Canonical JSON: equal accounts are equal strings."""
    fields = {
        "format": FORMAT_VERSION,
        "unit": account.unit,
        "fingerprint": account.fingerprint,
        "counts": counts(account),
        "rejected": [row._asdict() for row in account.rejected],
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def decode_account(text: str) -> Account:
    """The inverse of `encode_account`. Raises ValueError for a format that this version does not know."""
    fields = json.loads(text)
    if fields["format"] != FORMAT_VERSION:
        raise ValueError(f"an account of format {fields['format']}; this version reads format {FORMAT_VERSION}")
    counted = fields["counts"]
    rejected = tuple(Rejected(**row) for row in fields["rejected"])
    return Account(
        fields["unit"], fields["fingerprint"], counted["inputs"], counted["ok"], counted["skipped"], rejected
    )


COUNTS = ("inputs", "ok", "quarantined", "skipped")
"""Names of the four numbers that must add up."""


def counts(account: Account) -> dict[str, int]:
    """The four numbers that must add up."""
    return {
        "inputs": account.inputs,
        "ok": account.ok,
        "quarantined": len(account.rejected),
        "skipped": account.skipped,
    }


def quarantine_rows(account: Account) -> pa.Table:
    """The quarantined rows in the form of a store, so that they can be looked at like one."""
    rows = account.rejected
    columns = {name: pa.array([getattr(r, name) for r in rows], pa.string()) for name in Rejected._fields}
    columns["source_shard"] = columns.pop("shard")
    columns["image"] = image_array([None] * len(rows), [r.key.rsplit("/", 1)[-1] for r in rows]).cast(IMAGE_TYPE)
    return pa.table(columns)
