"""Read the rows of a unit; what cannot be one of them is set aside, whichever job reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from pipeline.engine.records.account import CHANGED, NO_KEY, Rejected
from pipeline.engine.records.units import Unit
from pipeline.stores import SHARD, SourceChangedError, read_rows, read_what_is_left
from pipeline.stores.schema import without_keyless

_STAGE = "read"


def read_unit(
    unit: Unit,
    columns: Sequence[str] | None = None,
    *,
    wants: Callable[[str], bool] | None = None,
    without_changed: pa.Schema | None = None,
) -> tuple[pa.Table, list[Rejected], int]:
    """The rows of a unit, of those `columns` or of all; those set aside; and how many are not wanted.

    Rows without a key are set aside. `without_changed` has the columns of the source, where inputs that are gone or
    have changed are to be set aside, too; without it they raise SourceChangedError.
    """
    lost = list[Rejected]()
    if without_changed is not None:
        rows, gone = read_what_is_left(unit.ranges, without_changed, columns, wants=wants)
        lost = [Rejected(key, of.shard, _STAGE, CHANGED, why) for key, of, why in gone]
    else:
        try:
            rows = read_rows(unit.ranges, columns, wants=wants)
        except SourceChangedError as error:
            raise SourceChangedError(f"{error}; --on_changed set_aside goes on without it") from error
    skipped = unit.rows - len(rows) - len(lost)
    rows, keyless = without_keyless(rows)
    why = "its key is null, and a row needs one to be told from others"
    for key, shard in zip(keyless["key"].to_pylist(), keyless[SHARD].to_pylist(), strict=True):
        lost.append(Rejected(key, shard, _STAGE, NO_KEY, why))
    return rows, lost, skipped
