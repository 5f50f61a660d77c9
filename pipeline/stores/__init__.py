"""Image stores: a prefix that holds images with keys, as Parquet shards or as a folder of files.

`open_store` looks at what is there. Rows come as an Arrow table with `key` (string), SHARD (the name of the shard,
relative to the store), the image columns (`struct<bytes, path>`) and every other column untouched. A row whose key is
null has shard and number in its place, and `without_keyless` tells such rows from the others.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa

from pipeline import images, storage
from pipeline.errors import UserError
from pipeline.stores import folder, naming, parquet
from pipeline.stores.features import features_of, united, with_features
from pipeline.stores.keys import duplicate_source_keys, file_and_folder_keys, store_keys
from pipeline.stores.mark import marked_segments
from pipeline.stores.ranges import Range, cut_range
from pipeline.stores.schema import (
    NO_KEY,
    SHARD,
    ShardsDifferError,
    SourceChangedError,
    Store,
    image_columns,
    require_unchanged,
    without_keyless,
)

__all__ = [
    "NO_KEY",
    "SHARD",
    "ShardsDifferError",
    "SourceChangedError",
    "Store",
    "duplicate_source_keys",
    "file_and_folder_keys",
    "image_columns",
    "open_store",
    "read_rows",
    "read_what_is_left",
    "store_keys",
    "without_keyless",
]

log = logging.getLogger("transdomain")


_PIECE_BYTES = 32_000_000
"""Encoded bytes that are read at a time where only some rows are wanted."""
_STAT_THREADS = 16


def open_store(url: str, *, alike: bool = True) -> Store:
    """The store at `url`: a prefix, one Parquet file, or all prefixes and files that a `*` in it stands for.

    Its columns are those of every shard; where the shards need not be `alike`, those that they have in common.
    Raises UserError, naming what to do, where nothing is there, nothing in it is an image or a Parquet shard, its
    shards disagree on their columns, or it is the unfinished output of another job; StorageError where a folder in it
    cannot be listed.
    """
    url = storage.escaped(storage.absolute(url))
    if "**" in url:
        raise UserError(f"{url}: what is below a prefix is read at any depth already; use a single *, or none")
    if naming.is_shard(url) and "*" not in url and (entry := storage.stat_file(url)) is not None:
        return parquet.open_shards(url, [entry], alike=alike)
    listing = _list_matching(url) if "*" in url else storage.list_inputs(url)
    entries, tally, root = listing.entries, listing.tally, url
    base = _pattern(url)[0] if "*" in url else url
    if not entries:
        raise UserError(f"{url}: nothing there; give a folder of images, or of Parquet shards{_besides(tally)}")
    names = {entry.name for entry in entries}
    if "_transdomain/job.json" in names:
        _require_finished(url, names)
        entries, root = [e._replace(name=e.name[5:]) for e in entries if e.name.startswith("data/")], f"{url}/data"
    nested = [] if root != url else naming.roots_of_outputs(entry.name for entry in entries)
    for prefix in nested:
        below = {entry.name.removeprefix(prefix) for entry in entries if entry.name.startswith(prefix)}
        _require_finished(f"{base}/{prefix}".rstrip("/"), below)
    if len(nested) > 1 and "*" not in url:
        raise _several(url, nested)
    kind, inputs = naming.inputs_among(entries, tally)
    if not inputs:
        raise _no_input(url, listing)
    if kind == "folder":
        store = folder.open_files(url, inputs)
        return replace(store, root=root, passed_over=storage.passed_over(tally), links=tally.followed)
    if beside := [entry for entry in entries if naming.is_image(entry.name)]:
        log.warning(
            "%s: %d image files, such as %s, stand beside Parquet shards and are not read",
            url,
            len(beside),
            beside[0].name,
        )
    store = parquet.open_shards(url, inputs, alike=alike)
    passed_over = (*storage.passed_over(tally), *store.passed_over)
    return replace(store, root=root, passed_over=passed_over, links=tally.followed)


def _require_finished(url: str, names: Collection[str]) -> None:
    """Raises UserError where the output of a job is not complete: its mark is missing, or names other segments than
    there are, as after a run that was killed while another one planned."""
    mark = storage.read_if_there(f"{url}/_SUCCESS") if "_SUCCESS" in names else None
    planned = sum(name.startswith("_transdomain/plan/") and not storage.is_leftover(name) for name in names)
    if mark is None or marked_segments(mark) != planned:
        raise UserError(f"{url}: the job that writes this store has not finished; run its command again first")


def _no_input(url: str, listing: storage.Listing) -> UserError:
    names = (entry.name for entry in listing.entries)
    if children := sorted({name.split("/")[0] for name in names if name.endswith("/_SUCCESS")}):
        return _several(url, children)
    endings = ", ".join(images.EXTENSIONS)
    return UserError(f"{url}: no Parquet shard and no image ({endings}) below it{_besides(listing.tally)}")


def _several(url: str, roots: Sequence[str]) -> UserError:
    stores = ", ".join(f"{url}/{root.rstrip('/')}" for root in roots[:5])
    return UserError(f"{url}: holds several stores; name one, or all by a *: {stores}")


def _besides(tally: storage.Tally) -> str:
    """A few words on what was passed over."""
    found = [f"{each.count} {each.reason}, such as {each.example}" for each in storage.passed_over(tally)[:3]]
    return f"; passed over are {'; '.join(found)}" if found else ""


def _list_matching(url: str) -> storage.Listing:
    """Every object that matches or is below a prefix that does, named from where the first `*` stands."""
    base, wanted = _pattern(url)
    return storage.list_inputs(
        base,
        wants=lambda name: _matches(name.split("/"), wanted),
        enters=lambda name: all(map(_fits, name.split("/"), wanted)),
    )


def is_listed(url: str, store: Store) -> bool:
    """Whether an object at `url` would be listed as a part of a store, by whatever links lead there."""
    root = store.root or store.url
    base, wanted = _pattern(root) if "*" in root else (root, [])
    target = storage.real(url)
    folders = [("", storage.real(base)), *((f"{name}/", folder) for name, folder in store.links.items())]
    names = [before + target[len(folder) + 1 :] for before, folder in folders if target.startswith(f"{folder}/")]
    return any(naming.is_shown(name) and _matches(name.split("/"), wanted) for name in names)


def _pattern(url: str) -> tuple[str, list[str]]:
    """The prefix before the first part with a `*`, and that part and what follows it."""
    base = url[: url.index("*")].rpartition("/")[0]
    return base, url[len(base) + 1 :].split("/")


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    return len(parts) >= len(wanted) and all(map(_fits, parts, wanted))


def _fits(part: str, wanted: str) -> bool:
    """Whether a part of a name is what another says, in which a `*` stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, wanted.split("*"))), part, re.DOTALL) is not None


def read_rows(
    ranges: Sequence[Range],
    columns: Sequence[str] | None = None,
    *,
    wants: Callable[[str], bool] | None = None,
) -> pa.Table:
    """The rows of `ranges`, in order; of the `columns` named (`key` and SHARD always), or of all. Where a key is null,
    there is NO_KEY, too.

    Of the rows whose key is wanted, where that is asked; files of others are not fetched.
    Raises SourceChangedError where a shard is not the one that was planned, StorageError where it cannot be read.
    """
    return _read(ranges, columns, wants, unchanged=False)


def _read(
    ranges: Sequence[Range], columns: Sequence[str] | None, wants: Callable[[str], bool] | None, *, unchanged: bool
) -> pa.Table:
    """`unchanged` says that the shards were just seen to be those that were planned."""
    if not all(naming.is_shard(r.shard) for r in ranges):
        files = [r for r in ranges if wants is None or wants(r.shard)]
        return folder.read_files(files, columns, unchanged=unchanged)
    if wants is None:
        return _together([parquet.read_range(r, columns) for r in ranges])
    # Piece by piece, so that what is not wanted is never held all at once.
    pieces = [piece for r in ranges for piece in cut_range(r, r.rows, _PIECE_BYTES)]
    return _together([_wanted(parquet.read_range(piece, columns), wants) for piece in pieces])


def _together(tables: Sequence[pa.Table]) -> pa.Table:
    """One table of rows of several shards, with what any of them says about its columns."""
    # Only tables that have a null key have the column that marks it.
    marked = any(NO_KEY in table.column_names for table in tables)
    rows = pa.concat_tables(tables, promote_options="default" if marked else "none")
    said = {table.schema.metadata and table.schema.metadata.get(b"huggingface"): table.schema for table in tables}
    return rows if len(said) == 1 else with_features(rows, united({}, *map(features_of, said.values())))


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
        lost = [(key, r, why) for key, r, why in lost if naming.is_shard(r.shard) or wants(key)]
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
    return parquet.row_keys(of) if naming.is_shard(of.shard) else [of.shard]


def _wanted(rows: pa.Table, wants: Callable[[str], bool]) -> pa.Table:
    return rows.filter(pa.array(map(wants, rows["key"].to_pylist()), pa.bool_()))
