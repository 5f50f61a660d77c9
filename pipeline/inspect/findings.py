"""What was found in a store, added up: plain numbers, for a report or as JSON."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import images, storage
from pipeline.inspect.looking import SHOWN, Seen, Wanted, look
from pipeline.stores import Store, image_columns, read_rows
from pipeline.stores.forms.registry import form_named
from pipeline.stores.forms.survey import read_footer
from pipeline.stores.tables.ranges import cut_range, joined

MOST_EXAMPLES = 5
_ROWS = 65_536
_THREADS = 8


class Column(NamedTuple):
    """Column of a store."""

    name: str
    type: str
    nulls: int | None
    """Rows that are null; None where that would take reading the column."""


class Bytes(NamedTuple):
    """Encoded bytes of the images."""

    least: int
    median: int
    largest: int
    total: int
    exact: bool
    """False where they are of the images that were looked at, and the total is reckoned from their mean."""


class Fault(NamedTuple):
    """Image that could not be read, or does not decode."""

    key: str
    column: str
    reason: str
    message: str


@dataclass
class Findings:
    """What was found in one store, or in one split of it."""

    name: str
    url: str
    form: str
    """Title of the objects that hold its rows."""
    shards: int
    rows: int
    columns: Sequence[Column]
    pictures: Sequence[str]
    """Image columns."""
    passed_over: Sequence[storage.PassedOver]
    wanted: Wanted
    looked: int = 0
    """Images that were looked at."""
    formats: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    """Images by channels and depth."""
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Images by width and height in pixels; zeros where they are not known."""
    sizes_recorded: bool = False
    """True where the sizes are those in columns of the store, of all rows; else those in headers."""
    bytes: Bytes | None = None
    decoded: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """Images that could not be read, or do not decode, by reason."""
    examples: list[Fault] = field(default_factory=list)
    sheet: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    """Some images by key and column."""

    @property
    def images(self) -> int:
        """Return the number of its images, readable or not."""
        return self.rows * len(self.pictures)

    @property
    def bad(self) -> int:
        """Return the number of images that could not be read, or do not decode."""
        return sum(self.faults.values())

    def record(self) -> dict[str, Any]:
        """Return all numbers as JSON has them."""
        return {
            "name": self.name, "url": self.url, "form": self.form, "shards": self.shards, "rows": self.rows,
            "images": self.images, "image_columns": list(self.pictures),
            "columns": [column._asdict() for column in self.columns],
            "formats": dict(self.formats.most_common()), "channels_and_depth": dict(self.kinds.most_common()),
            "sizes": [[width, height, count] for (width, height), count in self.sizes.most_common()],
            "sizes_are": "recorded" if self.sizes_recorded else "of headers",
            "encoded_bytes": self.bytes._asdict() if self.bytes else None,
            "headers_read": self.looked, "decoded": self.decoded, "faults": dict(self.faults.most_common()),
            "examples": [fault._asdict() for fault in self.examples],
            "passed_over": [vars(each) for each in self.passed_over],
        }  # fmt: skip


def found_in(
    name: str, store: Store, wanted: Wanted, threads: int, reading: images.Reading = images.AS_STORED
) -> tuple[Findings, Iterator[list[Seen]]]:
    """Return what was found in a store, and its images as they are looked at, some at a time.

    The findings are complete once the images were taken.
    """
    found = Findings(
        name=name,
        url=store.url,
        form=form_named(store.form).title,
        shards=len(store.shards),
        rows=store.rows,
        columns=list(_columns(store)),
        pictures=image_columns(store.schema),
        passed_over=store.passed_over,
        wanted=wanted,
    )
    return found, _looking(found, store, threads, reading)


def _looking(found: Findings, store: Store, threads: int, reading: images.Reading) -> Iterator[list[Seen]]:
    held, sizes = list[Seen](), array("q")
    for seen in look(store, found.pictures, found.wanted, threads, reading):
        _note(found, seen, sizes)
        held.append(seen)
        if len(held) == 1024:
            yield held
            held = []
    yield held
    recorded = _recorded_sizes(store)
    if recorded is not None:
        found.sizes, found.sizes_recorded = recorded, True
    if form_named(store.form).names_are_keys:
        found.bytes = _bytes(store.shards.sizes, found.images, exact=True)
    else:
        found.bytes = _bytes(np.array(sizes, np.int64), found.images, exact=found.looked == found.images)


def _note(found: Findings, seen: Seen, sizes: array[int]) -> None:
    found.looked += 1
    found.formats[seen.format] += 1
    found.kinds[seen.kind] += 1
    found.sizes[seen.width, seen.height] += 1
    found.decoded += seen.decoded
    if seen.size >= 0:
        sizes.append(seen.size)
    if seen.fault:
        found.faults[seen.fault[0]] += 1
        if found.faults[seen.fault[0]] <= MOST_EXAMPLES:
            found.examples.append(Fault(seen.key, seen.column, *seen.fault))
    if seen.picture is not None and (len(found.sheet) < SHOWN or seen.key in found.sheet):
        found.sheet.setdefault(seen.key, {})[seen.column] = seen.picture


def _bytes(sizes: np.ndarray, images: int, *, exact: bool) -> Bytes | None:
    if not len(sizes):
        return None
    total = int(sizes.sum()) if exact else round(float(sizes.mean()) * images)
    return Bytes(int(sizes.min()), int(np.median(sizes)), int(sizes.max()), total, exact)


def _columns(store: Store) -> Iterator[Column]:
    """Yield the columns of a store, with their nulls as far as footers tell."""
    if store.form == "parquet":
        nulls, known = _nulls(storage.ahead(read_footer, store.shards, _THREADS))
    else:
        nulls, known = Counter(), set(store.schema.names) if form_named(store.form).names_are_keys else set()
    pictures = set(image_columns(store.schema))
    for each in store.schema:
        leaf = f"{each.name}.bytes" if each.name in pictures else each.name
        count = nulls[leaf] if leaf in known or (each.name in known) else None
        yield Column(each.name, "image" if each.name in pictures else str(each.type), count)


def _nulls(footers: Iterable[pq.FileMetaData]) -> tuple[Counter[str], set[str]]:
    """Return the nulls of each leaf column that has no lists, and the leaves of which every row group tells them."""
    nulls, known, unknown = Counter[str](), set[str](), set[str]()
    for footer in footers:
        flat = {
            leaf.path for leaf in map(footer.schema.column, range(len(footer.schema))) if not leaf.max_repetition_level
        }
        for group in map(footer.row_group, range(footer.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                path, said = column.path_in_schema, column.statistics
                if path in flat and said is not None and said.has_null_count:
                    nulls[path] += said.null_count
                    known.add(path)
                else:
                    unknown.add(path)
    return nulls, known - unknown


def _recorded_sizes(store: Store) -> Counter[tuple[int, int]] | None:
    """Return the sizes in the columns `width` and `height`, which are read for it; None where they are not there."""
    names = ["width", "height"]
    if any(n not in store.schema.names or not pa.types.is_integer(store.schema.field(n).type) for n in names):
        return None
    pieces = (piece for whole in joined(store.ranges) for piece in cut_range(whole, _ROWS, max(whole.size, 1)))
    sizes = Counter[tuple[int, int]]()
    for rows in storage.ahead(lambda piece: read_rows([piece], names), pieces, _THREADS):
        pairs = rows.select(names).group_by(names).aggregate([([], "count_all")]).to_pylist()
        for pair in pairs:
            sizes[pair["width"] or 0, pair["height"] or 0] += pair["count_all"]
    return sizes
