"""Columns in the names of folders, as Hive, Spark and pyarrow write them: `split=train/class=cat/0.parquet`.

A column in the shard itself takes precedence over one of the same name in its path.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

_NULL = "__HIVE_DEFAULT_PARTITION__"


def path_values(shard: str) -> dict[str, str | None]:
    """Return the columns in the path of a shard, by name; all values are text."""
    found = dict[str, str | None]()
    for part in shard.split("/")[:-1]:
        name, equals, value = part.partition("=")
        if equals and name:
            found[unquote(name)] = None if value == _NULL else unquote(value)
    return found


def fields(shard: str, own: Iterable[str]) -> list[pa.Field]:
    """Return the columns that a shard has only by its path; `own` are those in the shard itself."""
    return [pa.field(name, pa.string()) for name in path_values(shard) if name not in set(own)]


def contradictions(shard: str, footer: pq.FileMetaData) -> dict[str, str]:
    """Return columns that differ between path and shard, and the difference, as far as the footer tells."""
    values = path_values(shard)
    if not values or not footer.num_row_groups:
        return {}
    found, group = {}, footer.row_group(0)
    for i in range(group.num_columns):
        column = group.column(i)
        name, statistics = column.path_in_schema, column.statistics
        if name in values and statistics is not None and statistics.has_min_max:
            for held in (statistics.min, statistics.max):
                if not _agree(held, values[name]):
                    found[name] = f"{name} is {held} in it and {values[name]} in its path"
    return found


def _agree(held: object, said: str | None) -> bool:
    if str(held) == said:
        return True
    try:
        return float(str(held)) == float(str(said))
    except ValueError:
        return False
