"""`_SUCCESS`, the mark that says complete: which segments it speaks of, and their counts."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

FORMAT_VERSION = 3
"""Version of everything that an output holds besides its data: plan, records, mark."""


class Totals(NamedTuple):
    """Counts over all units; inputs = ok + quarantined + skipped."""

    units: int
    inputs: int
    ok: int
    quarantined: int
    skipped: int


def encode_mark(segments: int, total: Totals, card_sha256: str | None) -> bytes:
    """The mark of an output of so many segments; `card_sha256` is of the dataset card, where one was written."""
    said = {"format": FORMAT_VERSION, "segments": segments, "last_segment": f"{segments - 1:06d}", **total._asdict()}
    return json.dumps(said | {"card_sha256": card_sha256}, indent=1, sort_keys=True).encode()


def decode_mark(data: bytes) -> dict[str, Any] | None:
    """What a mark says, or None where it is damaged, or is none of this format."""
    try:
        said = json.loads(data)
        known = said["format"] == FORMAT_VERSION and "card_sha256" in said
        return said if known and all(isinstance(said[n], int) for n in ("segments", *Totals._fields)) else None
    except (ValueError, KeyError, TypeError):
        return None


def marked_segments(data: bytes) -> int | None:
    """How many segments a mark speaks of, whichever version wrote it; None where it is damaged."""
    try:
        segments = json.loads(data)["segments"]
    except (ValueError, KeyError, TypeError):
        return None
    return segments if isinstance(segments, int) else None
