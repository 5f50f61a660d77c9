"""Image stores: a prefix that holds images with keys, as Parquet shards or as a folder of files.

`open_store` looks at what is there. Rows come as an Arrow table with `key` (string, unique), `source_shard` (the name
of the shard, relative to the store), the image columns (`struct<bytes, path>`) and every other column untouched.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence

import pyarrow as pa

from pipeline import images, storage
from pipeline.engine.plan import Range, cut_range
from pipeline.errors import UserError
from pipeline.stores import folder, parquet
from pipeline.stores.schema import SourceChangedError, Store, image_columns

__all__ = ["SourceChangedError", "Store", "image_columns", "open_store", "read_rows"]


_PIECE_BYTES = 32_000_000
"""Encoded bytes that are read at a time where only some rows are wanted."""


def open_store(url: str) -> Store:
    """The store at `url`: a prefix, one Parquet file, or all prefixes that a `*` in it stands for.

    Raises UserError, naming what to do, where nothing is there, nothing in it is an image or a Parquet shard, its
    shards disagree on their columns, or it is the unfinished output of another job.
    """
    url = storage.absolute(url)
    if url.endswith(".parquet"):
        entry = storage.stat_file(url)
        if entry is None:
            raise UserError(f"{url}: there is no such file")
        return parquet.open_shards(url, [entry])
    entries = _list_matching(url) if "*" in url else storage.list_files(url)
    if not entries:
        raise UserError(f"{url}: nothing there; give a folder of images, or of Parquet shards")
    names = {entry.name for entry in entries}
    if "_transdomain/job.json" in names:
        if "_SUCCESS" not in names:
            raise UserError(f"{url}: the job that writes this store has not finished; run its command again first")
        entries = [e._replace(name=e.name[5:]) for e in entries if e.name.startswith("data/")]
    entries = [e for e in entries if not any(part[0] in "._" for part in e.name.split("/"))]
    shards = [e for e in entries if e.name.endswith(".parquet")]
    if shards:
        return parquet.open_shards(url, shards)
    files = [e for e in entries if e.name.lower().endswith(images.EXTENSIONS)]
    if files:
        return folder.open_files(url, files)
    children = sorted({name.split("/")[0] for name in names if name.endswith("/_SUCCESS")})
    if children:
        raise UserError(f"{url}: holds several stores; name one: {', '.join(f'{url}/{c}' for c in children)}")
    raise UserError(f"{url}: no Parquet shard and no image ({', '.join(images.EXTENSIONS)}) below it")


def _list_matching(url: str) -> list[storage.Entry]:
    """Every object below the prefixes that match, named from where the first `*` stands."""
    base, _, _ = url[: url.index("*")].rpartition("/")
    wanted = url[len(base) + 1 :].split("/")
    return [entry for entry in storage.list_files(base) if _matches(entry.name.split("/"), wanted)]


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    return len(parts) > len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def read_rows(
    ranges: Sequence[Range],
    columns: Sequence[str] | None = None,
    *,
    wants: Callable[[str], bool] | None = None,
) -> pa.Table:
    """The rows of `ranges`, in order; of the `columns` named (`key` and `source_shard` always), or of all.

    Of the rows whose key is wanted, where that is asked; files of others are not fetched.
    Raises SourceChangedError where a shard is not the one that was planned, StorageError where it cannot be read.
    """
    if not all(r.shard.endswith(".parquet") for r in ranges):
        return folder.read_files([r for r in ranges if wants is None or wants(r.shard)], columns)
    if wants is None:
        return pa.concat_tables([parquet.read_range(r, columns) for r in ranges])
    # Piece by piece, so that what is not wanted is never held all at once.
    pieces = [piece for r in ranges for piece in cut_range(r, r.rows, _PIECE_BYTES)]
    return pa.concat_tables([_wanted(parquet.read_range(piece, columns), wants) for piece in pieces])


def _wanted(rows: pa.Table, wants: Callable[[str], bool]) -> pa.Table:
    return rows.filter(pa.array(map(wants, rows["key"].to_pylist()), pa.bool_()))
