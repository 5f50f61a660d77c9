"""Image stores: a prefix that holds images with keys, as Parquet shards or as a folder of files.

`open_store` looks at what is there. Rows come as an Arrow table with `key` (string, unique), `source_shard` (the name
of the shard, relative to the store), the image columns (`struct<bytes, path>`) and every other column untouched.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa

from pipeline import images, storage
from pipeline.engine.mark import decode_mark
from pipeline.engine.plan import Range, cut_range
from pipeline.errors import UserError
from pipeline.stores import folder, parquet
from pipeline.stores.schema import ShardsDifferError, SourceChangedError, Store, image_columns, require_unchanged

__all__ = [
    "ShardsDifferError",
    "SourceChangedError",
    "Store",
    "image_columns",
    "open_store",
    "read_rows",
    "read_what_is_left",
]

log = logging.getLogger("transdomain")


_PIECE_BYTES = 32_000_000
"""Encoded bytes that are read at a time where only some rows are wanted."""
_STAT_THREADS = 16


def open_store(url: str, *, alike: bool = True) -> Store:
    """The store at `url`: a prefix, one Parquet file, or all prefixes and files that a `*` in it stands for.

    Its columns are those of every shard; where the shards need not be `alike`, those that they have in common.
    Raises UserError, naming what to do, where nothing is there, nothing in it is an image or a Parquet shard, its
    shards disagree on their columns, a name is not text, or it is the unfinished output of another job.
    """
    url = storage.absolute(url)
    if "**" in url:
        raise UserError(f"{url}: what is below a prefix is read at any depth already; use a single *, or none")
    if url.endswith(".parquet") and "*" not in url:
        entry = storage.stat_file(url)
        if entry is None:
            raise UserError(f"{url}: there is no such file")
        return parquet.open_shards(url, [entry], alike=alike)
    entries = _list_matching(url) if "*" in url else storage.list_files(url)
    if not entries:
        raise UserError(f"{url}: nothing there; give a folder of images, or of Parquet shards")
    names, root = {entry.name for entry in entries}, url
    if "_transdomain/job.json" in names:
        _require_finished(url, names)
        entries, root = [e._replace(name=e.name[5:]) for e in entries if e.name.startswith("data/")], f"{url}/data"
    entries = [e for e in entries if _is_shown(e.name)]
    shards = [e for e in entries if e.name.endswith(".parquet")]
    files = [e for e in entries if e.name.lower().endswith(images.EXTENSIONS)]
    for entry in shards or files:
        if not _is_text(entry.name):
            raise UserError(f"{url}: the name {entry.name!r} is not UTF-8; rename the file")
    if shards:
        if files:
            log.warning(
                "%s: %d image files, such as %s, stand beside Parquet shards and are not read",
                url,
                len(files),
                files[0].name,
            )
        return replace(parquet.open_shards(url, shards, alike=alike), root=root)
    if files:
        return replace(folder.open_files(url, files), root=root)
    children = sorted({name.split("/")[0] for name in names if name.endswith("/_SUCCESS")})
    if children:
        raise UserError(f"{url}: holds several stores; name one: {', '.join(f'{url}/{c}' for c in children)}")
    raise UserError(f"{url}: no Parquet shard and no image ({', '.join(images.EXTENSIONS)}) below it")


def _require_finished(url: str, names: Collection[str]) -> None:
    """Raises UserError where the output of a job is not complete: its mark is missing, or names other segments than
    there are, as after a run that was killed while another one planned."""
    said = decode_mark(storage.read_if_there(f"{url}/_SUCCESS") or b"") if "_SUCCESS" in names else None
    planned = sum(name.startswith("_transdomain/plan/") and not storage.is_leftover(name) for name in names)
    if said is None or said["segments"] != planned:
        raise UserError(f"{url}: the job that writes this store has not finished; run its command again first")


def _list_matching(url: str) -> list[storage.Entry]:
    """Every object that matches or is below a prefix that does, named from where the first `*` stands."""
    base, wanted = _pattern(url)
    return [entry for entry in storage.list_files(base) if _matches(entry.name.split("/"), wanted)]


def is_listed(url: str, store: Store) -> bool:
    """Whether an object at `url` would be listed as a part of a store."""
    root = store.root or store.url
    base, wanted = _pattern(root) if "*" in root else (root, [])
    name = url.removeprefix(f"{base}/")
    return name != url and _is_shown(name) and _matches(name.split("/"), wanted)


def _is_shown(name: str) -> bool:
    """Whether no part of a name is one that readers leave out."""
    return not any(part.startswith((".", "_")) for part in name.split("/"))


def _pattern(url: str) -> tuple[str, list[str]]:
    """The prefix before the first part with a `*`, and that part and what follows it."""
    base = url[: url.index("*")].rpartition("/")[0]
    return base, url[len(base) + 1 :].split("/")


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    return len(parts) >= len(wanted) and all(map(_fits, parts, wanted))


def _fits(part: str, wanted: str) -> bool:
    """Whether a part of a name is what another says, in which a `*` stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, wanted.split("*"))), part, re.DOTALL) is not None


def _is_text(name: str) -> bool:
    """Whether a name is UTF-8, as it has to be in a plan; a disk may have others."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


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
    return _read(ranges, columns, wants, unchanged=False)


def _read(
    ranges: Sequence[Range], columns: Sequence[str] | None, wants: Callable[[str], bool] | None, *, unchanged: bool
) -> pa.Table:
    """`unchanged` says that the shards were just seen to be those that were planned."""
    if not all(r.shard.endswith(".parquet") for r in ranges):
        files = [r for r in ranges if wants is None or wants(r.shard)]
        return folder.read_files(files, columns, unchanged=unchanged)
    if wants is None:
        return pa.concat_tables([parquet.read_range(r, columns) for r in ranges])
    # Piece by piece, so that what is not wanted is never held all at once.
    pieces = [piece for r in ranges for piece in cut_range(r, r.rows, _PIECE_BYTES)]
    return pa.concat_tables([_wanted(parquet.read_range(piece, columns), wants) for piece in pieces])


def read_what_is_left(
    ranges: Sequence[Range],
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    *,
    wants: Callable[[str], bool] | None = None,
) -> tuple[pa.Table, list[tuple[str, Range, str]]]:
    """What `read_rows` gives of the shards that are as they were planned, and the rows of the others.

    Those come as key, range and the reason why it cannot be read; their keys are those by which their shard names its
    rows. Where nothing is left, the table has no rows, and the columns of `schema`.
    """
    shards = {r.url: r for r in ranges}
    with ThreadPoolExecutor(max(1, min(_STAT_THREADS, len(shards)))) as threads:
        changes = dict(zip(shards, threads.map(_change, shards.values()), strict=True))
    left = [r for r in ranges if not changes[r.url]]
    lost = [(key, r, changes[r.url]) for r in ranges if changes[r.url] for key in _keys(r)]
    if wants is not None:
        lost = [(key, r, why) for key, r, why in lost if r.shard.endswith(".parquet") or wants(key)]
    rows = _read(left, columns, wants, unchanged=True) if left else parquet.no_rows(schema, columns)
    return rows, lost


def _change(planned: Range) -> str:
    """What happened to a range's shard since it was planned; empty where nothing did."""
    try:
        require_unchanged(planned)
    except SourceChangedError as error:
        return str(error)
    return ""


def _keys(of: Range) -> list[str]:
    """The keys by which a shard names its rows where it has none of its own."""
    return parquet.row_keys(of) if of.shard.endswith(".parquet") else [of.shard]


def _wanted(rows: pa.Table, wants: Callable[[str], bool]) -> pa.Table:
    return rows.filter(pa.array(map(wants, rows["key"].to_pylist()), pa.bool_()))
