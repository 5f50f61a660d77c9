"""`_SUCCESS`, the mark of a complete output: the segments it covers, and their counts."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

FORMAT_VERSION = 3
"""Version of everything that an output holds besides its data: plan, records, mark."""


class Totals(NamedTuple):
    """Counts over all units; inputs + further = ok + quarantined + skipped."""

    units: int
    inputs: int
    ok: int
    quarantined: int
    skipped: int
    further: int = 0
    """Rows beyond the first of inputs that have become several."""


def encode_mark(segments: int, total: Totals, card_sha256: str | None) -> bytes:
    """Return the mark of an output of this many segments; `card_sha256` is that of the dataset card, if written."""
    counts = {name: count for name, count in total._asdict().items() if count or name != "further"}
    said = {"format": FORMAT_VERSION, "segments": segments, "last_segment": f"{segments - 1:06d}", **counts}
    return json.dumps(said | {"card_sha256": card_sha256}, indent=1, sort_keys=True).encode()


def decode_mark(data: bytes) -> dict[str, Any] | None:
    """Return the content of a mark, or None where it is damaged or not of this format."""
    try:
        said = {"further": 0} | json.loads(data)
        known = said["format"] == FORMAT_VERSION and "card_sha256" in said
        return said if known and all(isinstance(said[n], int) for n in ("segments", *Totals._fields)) else None
    except (ValueError, KeyError, TypeError):
        return None


def marked_segments(data: bytes) -> int | None:
    """Return the number of segments that a mark covers, whichever version wrote it; None where it is damaged."""
    try:
        segments = json.loads(data)["segments"]
    except (ValueError, KeyError, TypeError):
        return None
    return segments if isinstance(segments, int) else None
