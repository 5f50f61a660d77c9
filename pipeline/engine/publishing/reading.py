"""Reading of the rows of a unit, and quarantine of those that no job can use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from pipeline.cluster import watchdog
from pipeline.engine.records.account import CHANGED, NO_KEY, Quarantined
from pipeline.engine.records.units import Unit
from pipeline.stores import SHARD, SourceChangedError, read_rows, read_unchanged_rows
from pipeline.stores.tables.schema import Context, without_keyless

_STAGE = "read"


def read_unit(
    unit: Unit,
    columns: Sequence[str] | None = None,
    *,
    wants: Callable[[str], bool] | None = None,
    without_changed: pa.Schema | None = None,
    context: Context | None = None,
) -> tuple[pa.Table, list[Quarantined], int]:
    """Read the rows of a unit, with `columns` or all; return them, the quarantined rows, and the number of unwanted
    rows.

    `context` is that of its store.

    Rows without a key are quarantined. `without_changed` is the source's schema where inputs that are gone or have
    changed are to be quarantined, too; without it they raise SourceChangedError.
    """
    lost = list[Quarantined]()
    if without_changed is not None:
        with watchdog.patient():
            rows, gone = read_unchanged_rows(unit.ranges, without_changed, columns, wants=wants, context=context)
        lost = [Quarantined(key, of.shard, _STAGE, CHANGED, why) for key, of, why in gone]
    else:
        try:
            with watchdog.patient():
                rows = read_rows(unit.ranges, columns, wants=wants, context=context)
        except SourceChangedError as error:
            raise SourceChangedError(f"{error}; --on_changed set_aside goes on without it") from error
    skipped = unit.rows - len(rows) - len(lost)
    rows, keyless = without_keyless(rows)
    why = "its key is null, and a row needs one to be told from others"
    for key, shard in zip(keyless["key"].to_pylist(), keyless[SHARD].to_pylist(), strict=True):
        lost.append(Quarantined(key, shard, _STAGE, NO_KEY, why))
    return rows, lost, skipped
