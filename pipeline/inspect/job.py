"""Look through stores: open them, or the splits that one holds, look at their images, and compare the splits."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.errors import UserError
from pipeline.inspect.config import InspectConfig
from pipeline.inspect.findings import Findings, found_in
from pipeline.inspect.groups import Digests, Equal, Place
from pipeline.inspect.looking import Wanted
from pipeline.stores import Store, image_columns, open_store, read_rows, store_keys
from pipeline.stores.forms.naming import roots_of_outputs
from pipeline.stores.forms.registry import form_named
from pipeline.stores.selection import only_shards
from pipeline.stores.tables.options import STANDARD, StoreOptions

SPLITS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval", "holdout")
"""Names of folders of images that are taken for splits."""


@dataclass(frozen=True)
class Split:
    """A store, or a part of one."""

    name: str
    store: Store
    folder: str = ""
    """Folder in the store that holds its images; the keys of splits are compared without it."""

    def bare(self, key: str) -> str:
        """Return a key as it is compared with those of other splits."""
        return key.removeprefix(self.folder)


@dataclass(frozen=True)
class Inspection:
    """What was found in all splits."""

    splits: Sequence[Findings]
    contents: Equal | None
    """Images of equal content; None where nobody looked."""
    content_examples: Sequence[str]
    keys: Equal | None
    """Keys that several splits have; None for a single one."""
    key_examples: Sequence[str]

    def record(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        return {
            "splits": [each.record() for each in self.splits],
            "duplicates": _record(self.contents, self.content_examples, self.splits),
            "keys_in_several_splits": _record(self.keys, self.key_examples, self.splits),
        }


def _record(equal: Equal | None, examples: Sequence[str], splits: Sequence[Findings]) -> dict[str, Any] | None:
    if equal is None:
        return None
    shared = [[splits[one].name, splits[two].name, count] for (one, two), count in sorted(equal.shared.items())]
    return {"groups": equal.groups, "repeated": equal.repeated, "between_splits": shared, "examples": list(examples)}


def inspect(splits: Sequence[Split], config: InspectConfig) -> Inspection:
    """Look through these stores. An image that cannot be read, or is broken, is counted, and never an error."""
    findings, content_examples, key_examples = list[Findings](), list[str](), list[str]()
    contents = keys = None
    with contextlib.ExitStack() as stack:
        digests = Digests(stack)
        for number, split in enumerate(splits):
            rows = split.store.rows
            of = Wanted.of(config.sample, config.decode, duplicates=config.duplicates, rows=rows)
            found, looking = found_in(split.name, split.store, of, config.threads, config.reading)
            for some in storage.told(looking, _progress(split, of)):
                if config.duplicates:
                    digests.add(number, [(seen.digest, seen.row) for seen in some if seen.digest and seen.size])
            findings.append(found)
        if config.duplicates:
            contents = digests.equal()
            content_examples = list(_content_examples(contents, splits))
    if len(splits) > 1:
        keys, key_examples = _compare_keys(splits)
    return Inspection(findings, contents, content_examples, keys, key_examples)


def _progress(split: Split, wanted: Wanted) -> Any:
    return lambda count: f"{split.store.url}: looked at {count * 1024:,} images of about {wanted.rows:,} rows"


def open_splits(urls: Sequence[str], options: StoreOptions = STANDARD) -> list[Split]:
    """Return the stores at these URLs; of a single one, the splits that it holds.

    Raises UserError where one cannot be opened, or holds no images, and StorageError where it cannot be listed.
    """
    if len(urls) == 1:
        return _splits_below(storage.absolute(urls[0]), options)
    stores = [_open(storage.absolute(url), options) for url in urls]
    names = _distinct([storage.absolute(url) for url in urls])
    return [Split(name, store) for name, store in zip(names, stores, strict=True)]


def _distinct(urls: Sequence[str]) -> list[str]:
    """Return short names for URLs: as many of their last parts as it takes to tell them apart."""
    parts = [url.split("/") for url in urls]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return list(urls)


def _open(url: str, options: StoreOptions) -> Store:
    store = open_store(url, options=options)
    if not image_columns(store.schema):
        raise UserError(f"{url}: no column holds images (found {', '.join(store.schema.names)})")
    if not store.first_rows(1):
        raise UserError(f"{url}: holds no rows; there is nothing to look at")
    return store


def _splits_below(url: str, options: StoreOptions) -> list[Split]:
    """Return the store at `url` as one split, or the outputs or folders below it that are splits."""
    try:
        store = _open(url, options)
    except UserError:
        roots = [] if "*" in url else [root.rstrip("/") for root in roots_of_outputs(storage.list_files(url))]
        if len(roots) < 2 or "" in roots:
            raise
        return [Split(root, _open(f"{url}/{root}", options)) for root in sorted(roots)]
    if not form_named(store.form).names_are_keys:
        return [Split("", store)]
    firsts = pc.list_element(pc.split_pattern(store.shards.names, "/", max_splits=1), 0)
    folders = [name for name in pc.unique(firsts).to_pylist() if name.lower() in SPLITS]
    inside = pc.match_substring(store.shards.names, "/")
    if len(folders) < 2:
        return [Split("", store)]
    found = []
    for folder in folders:
        which = np.flatnonzero(pc.and_(pc.equal(firsts, folder), inside).to_numpy(zero_copy_only=False))
        if len(which):
            found.append(Split(folder, replace(only_shards(store, which), passed_over=()), f"{folder}/"))
    rest = np.flatnonzero(
        pc.invert(pc.is_in(firsts, value_set=pa.array(folders, firsts.type))).to_numpy(zero_copy_only=False)
    )
    if len(rest):
        found.append(Split("others", only_shards(store, rest)))
    else:
        found[0] = replace(found[0], store=replace(found[0].store, passed_over=store.passed_over))
    return found


def _content_examples(equal: Equal, splits: Sequence[Split]) -> Iterator[str]:
    """Yield a line for each example: two images of equal content."""
    for pairs in (equal.examples, *equal.shared_examples.values()):
        for one, two in pairs:
            yield f"{_named(one, splits)} = {_named(two, splits)}"


def _named(place: Place, splits: Sequence[Split]) -> str:
    """Return split and key of a row."""
    number, row = place
    split = splits[number]
    ends = np.cumsum(split.store.ranges.each_rows, dtype=np.int64)
    at = int(np.searchsorted(ends, row, "right"))
    piece = split.store.ranges[at]
    first = piece.start + row - (int(ends[at]) - piece.rows)
    key = read_rows([piece._replace(start=first, stop=first + 1)], [])["key"][0].as_py()
    return f"{split.name}: {key}" if split.name and not split.folder else str(key)


def _compare_keys(splits: Sequence[Split]) -> tuple[Equal, list[str]]:
    """Return which keys several splits have, and a line for some of them."""
    with contextlib.ExitStack() as stack:
        digests = Digests(stack)
        for number, split in enumerate(splits):
            row = 0
            for _, keys in store_keys(split.store):
                digests.add(number, [(_digest(split.bare(key)), row + i) for i, key in enumerate(keys)])
                row += len(keys)
        equal = digests.equal()
    wanted = {places[0] for pairs in equal.shared_examples.values() for places in pairs}
    texts = dict[Place, str]()
    for number in {number for number, _ in wanted}:
        row = 0
        for _, keys in store_keys(splits[number].store):
            here = [r for n, r in wanted if n == number and row <= r < row + len(keys)]
            texts |= {(number, r): splits[number].bare(keys[r - row]) for r in here}
            row += len(keys)
    lines = [
        f"{texts[places[0]]} in {splits[one].name} and {splits[two].name}"
        for (one, two), pairs in sorted(equal.shared_examples.items())
        for places in pairs
    ]
    return equal, lines


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()
