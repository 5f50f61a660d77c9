"""Image stores: prefixes that hold images with keys, as Parquet shards or as a folder of files.

`open_store` detects the form. Rows come as an Arrow table with `key` (string), SHARD (name of the shard, relative to
the store), the image columns (`struct<bytes, path>`) and all other columns unchanged. A row without a key is named by
shard and row number.

Names are imported when they are first used, so that options are read without pyarrow.
"""

from typing import TYPE_CHECKING

from pipeline import lazy

if TYPE_CHECKING:
    from pipeline.stores.keys import duplicate_source_keys, file_and_folder_keys, store_keys
    from pipeline.stores.opening import is_listed, open_store, read_rows, read_unchanged_rows
    from pipeline.stores.tables.schema import (
        SHARD,
        ShardsDifferError,
        SourceChangedError,
        Store,
        image_columns,
    )

__all__ = [
    "SHARD",
    "ShardsDifferError",
    "SourceChangedError",
    "Store",
    "duplicate_source_keys",
    "file_and_folder_keys",
    "image_columns",
    "is_listed",
    "open_store",
    "read_rows",
    "read_unchanged_rows",
    "store_keys",
]

__getattr__ = lazy.names_of(
    __name__,
    {
        "keys": ("duplicate_source_keys", "file_and_folder_keys", "store_keys"),
        "opening": ("is_listed", "open_store", "read_rows", "read_unchanged_rows"),
        "tables.schema": (
            "SHARD",
            "ShardsDifferError",
            "SourceChangedError",
            "Store",
            "image_columns",
        ),
    },
)
