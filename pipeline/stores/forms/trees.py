"""Pairs of files from two parallel folders: an image of domain A and one of domain B with the same key.

No folder holds such pairs: `pair_up` makes them of the listings of two folders. A pair is a shard of one row. Its name
is its key and ENDING; its URL and its version are those of both files, with a tab between them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.errors import UserError
from pipeline.stores.forms.form import StoreForm
from pipeline.stores.tables.ranges import Range, whole_shards
from pipeline.stores.tables.schema import IMAGE_TYPE, SHARD, Store, image_column, read_planned, require_unchanged

ENDING = ".a+b"
COLUMNS = ("image_a", "image_b")
_TAB = "\t"
_READ_THREADS = 16
_TEXT = pa.large_string()
_NO_PARTNER, _NO_MATCH = "no partner", "name does not match --pair_by"


class Trees(StoreForm):
    """Pairs of files from two parallel folders."""

    name, title, one = "trees", "pairs of files", "pair of files"
    unlisted = f"files whose name ends with {ENDING}, as that of a pair of files does"
    names_are_keys = True

    def reads(self, name: str) -> bool:
        return name.endswith(ENDING)

    def lists(self, name: str) -> bool:
        return False

    def open(self, url: str, entries: storage.Entries, *, alike: bool = True) -> Store:
        schema = pa.schema([("key", pa.string()), *((column, IMAGE_TYPE) for column in COLUMNS)])
        return Store(url, self.name, schema, entries, whole_shards(entries).of_shards)

    def read(
        self,
        ranges: Sequence[Range],
        columns: Sequence[str] | None,
        *,
        wants: Callable[[str], bool] | None = None,
        unchanged: bool = False,
    ) -> pa.Table:
        """Return pairs as rows of `key`, the two images and the shard; fetch only those images that are requested.

        The other file of a pair is looked at, unless it is known to be `unchanged`.
        """
        ranges = [r for r in ranges if wants is None or wants(key_of(r.shard))]
        keys = [key_of(r.shard) for r in ranges]
        table = pa.table({"key": pa.array(keys, pa.string())})
        with ThreadPoolExecutor(max(1, min(_READ_THREADS, len(ranges)))) as threads:
            for side, column in enumerate(COLUMNS):
                halves = [_halves(r)[side] for r in ranges]
                if columns is None or column in columns:
                    data = list(threads.map(read_planned, halves))
                    names = [half.url.rsplit("/", 1)[-1] for half in halves]
                    table = table.append_column(column, image_column(data, names))
                elif not unchanged:
                    list(threads.map(require_unchanged, halves))
        return table.append_column(SHARD, pa.array([r.shard for r in ranges], pa.string()))

    def require_unchanged(self, planned: Range) -> None:
        for half in _halves(planned):
            require_unchanged(half)

    def row_names(self, piece: Range) -> list[str]:
        return [key_of(piece.shard)]

    def keys(self, store: Store) -> Iterator[tuple[str, Sequence[str]]]:
        yield from ((piece.url, self.row_names(piece)) for piece in store.ranges)

    def has_unique_keys(self, store: Store) -> bool:
        return True


def key_of(shard: str) -> str:
    """Return the key of a pair, by its name."""
    return shard.removesuffix(ENDING)


def _halves(planned: Range) -> tuple[Range, Range]:
    """Return the ranges of the two files of a pair; their sizes are not known."""
    urls, seen = planned.url.split(_TAB), planned.version.split(_TAB)
    one, two = (planned._replace(url=url, version=version) for url, version in zip(urls, seen, strict=True))
    return one, two


class Paired(NamedTuple):
    """Pairs of two folders, and what is in neither pair."""

    entries: storage.Entries
    """One for each pair, sorted by name."""
    alone: pa.Table
    """Files of no pair: `tree` (a or b), `name` in it, and the `reason`; sorted by tree and name."""


def pair_up(a: storage.Entries, b: storage.Entries, pattern: str = "") -> Paired:
    """Pair the files of two folders that have the same key: the relative name without its ending.

    With a `pattern`, the key is what its first group matches anywhere in the relative name, and a file whose name it
    does not match is in no pair. Raises UserError where two files of a folder have one key, naming them.
    """
    (keys_a, alone_a), (keys_b, alone_b) = (_keyed(entries, pattern) for entries in (a, b))
    for entries, keys in ((a, keys_a), (b, keys_b)):
        _require_single(entries, keys)
    partner = pc.index_in(keys_a, value_set=pc.drop_null(keys_b))
    # An index into the keys without nulls becomes a position among all files.
    with_key = np.flatnonzero(keys_b.is_valid().to_numpy(zero_copy_only=False))
    of_a = np.flatnonzero(partner.is_valid().to_numpy(zero_copy_only=False))
    of_b = with_key[partner.take(pa.array(of_a)).to_numpy(zero_copy_only=False).astype(np.int64)]
    left = [_alone("a", a, alone_a, of_a), _alone("b", b, alone_b, of_b)]
    names = _text_of(keys_a.take(pa.array(of_a)), "", ENDING)
    order = np.asarray(pc.sort_indices(names))
    return Paired(
        _entries(a.take(of_a[order]), b.take(of_b[order]), names.take(pa.array(order))), pa.concat_tables(left)
    )


def open_paired(a: Store, b: Store, pattern: str = "") -> tuple[Store, Paired]:
    """Return the store of pairs of files in two folders, and what is in no pair.

    Raises UserError where no two files have the same key, or one of the stores is no folder of image files.
    """
    for store in (a, b):
        if store.form != "folder":
            raise UserError(f"{store.url}: pairs are made of the image files of two folders, and this is {store.form}")
    paired = pair_up(a.shards, b.shards, pattern)
    if not len(paired.entries):
        raise UserError(
            f"{a.url} and {b.url}: no two files have the same key, such as {a.shards[0].name} and {b.shards[0].name}; "
            "name what they have in common by the first group of --pair_by"
        )
    others = [
        replace(each, reason=f"{each.reason}, in {tree}") for s, tree in ((a, "A"), (b, "B")) for each in s.passed_over
    ]
    store = Trees().open(f"{a.url} + {b.url}", paired.entries)
    store = replace(store, root=a.root or a.url, links=a.links, passed_over=(*passed_over(paired), *others))
    return store, paired


def _keyed(entries: storage.Entries, pattern: str) -> tuple[pa.Array, pa.Array]:
    """Return the key of each file, null where it has none, and the reason that it has if it turns out to be alone."""
    if not pattern:
        keys = pc.replace_substring_regex(entries.names, r"([^/])\.[^./]*$", r"\1")
    else:
        search = re.compile(pattern).search
        each = (match[1] if (match := search(name)) else None for names in entries.name_batches() for name in names)
        keys = pa.array((key or None for key in each), _TEXT)
    return keys, pc.if_else(keys.is_valid(), _NO_PARTNER, _NO_MATCH)


def _require_single(entries: storage.Entries, keys: pa.Array) -> None:
    counted = pc.value_counts(pc.drop_null(keys))
    several = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
    if not len(several):
        return
    key = min(several[:1000].to_pylist())
    names = entries.names.filter(pc.fill_null(pc.equal(keys, key), False)).to_pylist()
    more = f"; {len(several) - 1} other keys have several files, too" if len(several) > 1 else ""
    raise UserError(
        f"{entries.base}: {len(names)} files for the key {key!r}: {', '.join(names[:5])}; keep one of them, or tell "
        f"them apart by the first group of --pair_by{more}"
    )


def _alone(tree: str, entries: storage.Entries, reasons: pa.Array, paired: np.ndarray) -> pa.Table:
    rest = np.ones(len(entries), bool)
    rest[paired] = False
    names = entries.names.filter(pa.array(rest))
    return pa.table({"tree": pa.repeat(tree, len(names)), "name": names, "reason": reasons.filter(pa.array(rest))})


def _entries(a: storage.Entries, b: storage.Entries, names: pa.Array) -> storage.Entries:
    urls = [each.urls for each in (a, b)]
    for each in urls:
        if len(with_tab := each.filter(pc.match_substring(each, _TAB))):
            raise UserError(f"{with_tab[0].as_py()}: a name with a tab in it, which a pair cannot hold; rename it")
    both = pc.binary_join_element_wise(*urls, pa.scalar(_TAB, _TEXT))
    versions = pc.binary_join_element_wise(a.versions, b.versions, pa.scalar(_TAB, _TEXT))
    return storage.Entries(a.base, names, a.sizes + b.sizes, versions, both)


def _text_of(values: pa.Array, before: str, after: str) -> pa.Array:
    return pc.binary_join_element_wise(pa.scalar(before, _TEXT), values, pa.scalar(after, _TEXT), pa.scalar("", _TEXT))


def passed_over(paired: Paired) -> tuple[storage.PassedOver, ...]:
    """Return the files of no pair as a store says what it passes over: by folder and reason."""
    found, each = [], paired.alone
    for tree, reason in ((tree, reason) for tree in "ab" for reason in (_NO_PARTNER, _NO_MATCH)):
        alone = each.filter(pc.and_(pc.equal(each["tree"], tree), pc.equal(each["reason"], reason)))
        if len(alone):
            what = "without a partner" if reason == _NO_PARTNER else f"whose {reason}"
            example = alone["name"][0].as_py()
            found.append(storage.PassedOver(f"image files of {tree.upper()} {what}", len(alone), example))
    return tuple(found)
