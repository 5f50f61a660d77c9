"""Options of reading a store, apart from it: how rows are named, and what becomes of columns that some shards lack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

KeyRule = Literal["own", "by_shard"]
MissingColumns = Literal["fail", "null"]


@dataclass(frozen=True, kw_only=True)
class StoreOptions:
    """Choices of the user where a store alone does not decide. They apply to Parquet shards."""

    pictures: tuple[str, ...] = ()
    """Columns that hold pictures, in whatever form; by default those that are found."""
    keys: KeyRule = "own"
    """Names of rows. own: those in the column key, else SHARD#ROW. by_shard: SHARD#KEY, for keys that begin anew in
    each shard."""
    missing_columns: MissingColumns = "fail"
    """Treatment of columns that some shards lack. null: their rows have nulls there."""

    def recorded(self) -> dict[str, str]:
        """Return what a recipe says of these options: only what is not the default, so that older outputs go on."""
        said = {"keys": (self.keys, "own"), "missing_columns": (self.missing_columns, "fail")}
        return {name: value for name, (value, default) in said.items() if value != default}


STANDARD = StoreOptions()
