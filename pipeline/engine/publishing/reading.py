"""Reading of the rows of a unit, and quarantine of those that are gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from pipeline.cluster import watchdog
from pipeline.engine.records.account import CHANGED, Quarantined
from pipeline.engine.records.units import Unit
from pipeline.stores import SourceChangedError, read_rows, read_unchanged_rows

_STAGE = "read"


def read_unit(
    unit: Unit,
    columns: Sequence[str] | None = None,
    *,
    wants: Callable[[str], bool] | None = None,
    without_changed: pa.Schema | None = None,
) -> tuple[pa.Table, list[Quarantined], int]:
    """Read the rows of a unit, with `columns` or all; return them, the quarantined rows, and the number of unwanted
    rows.

    `without_changed` is the source's schema where inputs that are gone or have changed are to be quarantined; without
    it they raise SourceChangedError.
    """
    lost = list[Quarantined]()
    if without_changed is not None:
        with watchdog.patient():
            rows, gone = read_unchanged_rows(unit.ranges, without_changed, columns, wants=wants)
        lost = [Quarantined(key, of.shard, _STAGE, CHANGED, why) for key, of, why in gone]
    else:
        try:
            with watchdog.patient():
                rows = read_rows(unit.ranges, columns, wants=wants)
        except SourceChangedError as error:
            raise SourceChangedError(f"{error}; --on_changed set_aside goes on without it") from error
    return rows, lost, unit.rows - len(rows) - len(lost)
