"""Images of a store that are looked at: the header of some, the pixels of fewer, or the bytes of all."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pipeline import images, storage
from pipeline.engine.estimate.drawing import SEED, draw_from
from pipeline.engine.estimate.looking import UNREADABLE, first_bytes
from pipeline.errors import StorageError, one_line
from pipeline.inspect.config import Count
from pipeline.inspect.kinds import UNKNOWN, kind_of
from pipeline.report.page.pictures import small
from pipeline.stores import SourceChangedError, Store, read_rows
from pipeline.stores.forms.registry import form_named, form_of_ranges
from pipeline.stores.tables.ranges import Range, cut_range

SHOWN = 24
"""Images on the contact sheet."""
_RUN, _LEAST_RUNS = 16, 64
"""Neighbours in a shard of many rows that are drawn together, as long as there are so many of these runs."""
_PIECE_ROWS, _PIECE_BYTES = 1024, 32_000_000
"""Bounds of what one thread reads at a time."""

_decoders = threading.BoundedSemaphore(4)
"""Bound on images that are decoded at once: a large one takes half a gigabyte."""


class Seen(NamedTuple):
    """One image that was looked at."""

    row: int
    """Number of its row in the store."""
    key: str
    column: str
    format: str
    """One of `images.FORMATS`, UNKNOWN, or UNREADABLE."""
    kind: str
    """Channels and depth."""
    width: int
    """Pixels, as stored; 0, like the height, where the header does not say it."""
    height: int
    size: int
    """Encoded bytes; -1 where only the beginning was read."""
    digest: bytes
    """First 16 bytes of the sha256 of its bytes and the name of its column; empty where only the beginning was read."""
    decoded: bool
    """True where its pixels were asked for."""
    fault: tuple[str, str] | None
    """Reason and message, where it could not be read, or does not decode."""
    picture: np.ndarray | None
    """Image as a page shows it, uint8 [height, width, 3], where that was asked for and is possible."""


class Wanted(NamedTuple):
    """What is to be looked at in a store."""

    rows: int
    """Number of rows that are looked at."""
    decoded: int
    """Number of them that are decoded."""
    everything: bool
    """True where all bytes are read of all that is looked at."""

    @classmethod
    def of(cls, sample: Count, decode: Count, *, duplicates: bool, rows: int) -> Wanted:
        """Return what the options ask for, in a store of so many rows."""
        decoded = rows if decode == "all" else min(decode, rows)
        looked = rows if sample == "all" or duplicates else min(max(sample, decoded), rows)
        return cls(looked, decoded, duplicates)


def look(store: Store, columns: Sequence[str], wanted: Wanted, threads: int) -> Iterator[Seen]:
    """Yield the images of a store that are looked at, in order, those of some rows at a time."""
    ranges, is_file = store.ranges, form_named(store.form).names_are_keys
    pieces = draw_from(
        ranges, ranges.each_rows, wanted.rows, run=1 if is_file else max(1, min(_RUN, wanted.rows // _LEAST_RUNS))
    )
    if wanted.rows < ranges.rows:
        pieces = iter(drawn := list(pieces))
        numbers: Sequence[int] = [row + i for piece, row in drawn for i in range(piece.rows)]
    else:
        numbers = range(ranges.rows)
    chosen: Collection[int] = numbers
    if wanted.decoded < len(numbers):
        chosen = set(random.Random(SEED).sample(numbers, wanted.decoded))
    in_order = chosen if isinstance(chosen, range) else sorted(chosen)
    shown = set(in_order[:: max(1, len(in_order) // SHOWN)][:SHOWN])

    def small() -> Iterator[tuple[Range, int]]:
        for piece, row in pieces:
            for part in cut_range(piece, _PIECE_ROWS, _PIECE_BYTES):
                yield part, row + part.start - piece.start

    def look_at(item: tuple[Range, int]) -> list[Seen]:
        piece, row = item
        if is_file and columns == ["image"] and not wanted.everything and row not in chosen:
            return [_of_file(piece, row)]
        return _of_rows(piece, row, columns, chosen, shown)

    for seen in storage.ahead(look_at, small(), threads):
        yield from seen


def _of_file(piece: Range, row: int) -> Seen:
    try:
        data = first_bytes(piece)
    except (OSError, StorageError) as error:
        return _unreadable(row, piece.shard, "image", error)
    return _seen(row, piece.shard, "image", data)._replace(size=piece.size, digest=b"")


def _of_rows(
    piece: Range, first: int, columns: Sequence[str], chosen: Collection[int], shown: Collection[int]
) -> list[Seen]:
    """Look at all images in some rows; decode those in the `chosen` rows, and keep pictures of those to be shown."""
    numbers = range(first, first + piece.rows)
    try:
        rows = read_rows([piece], columns)
    except (OSError, StorageError, SourceChangedError) as error:
        names = form_of_ranges([piece]).row_names(piece)
        return [_unreadable(n, key, c, error) for n, key in zip(numbers, names, strict=True) for c in columns]
    found = list[Seen]()
    for column in columns:
        cells = zip(numbers, rows["key"].to_pylist(), rows[column], strict=True)
        for number, key, cell in cells:
            value = cell.as_py()
            seen = _seen(number, key, column, (value or {}).get("bytes") or b"")
            found.append(_decoded(seen, value, number in shown) if number in chosen else seen)
    return found


def _seen(row: int, key: str, column: str, data: bytes) -> Seen:
    form, (width, height) = images.format_of(data) or UNKNOWN, images.size_of(data)
    digest = hashlib.sha256(column.encode() + b"\0" + data).digest()[:16]
    return Seen(row, key, column, form, kind_of(data), width, height, len(data), digest, False, None, None)


def _decoded(seen: Seen, cell: dict[str, object] | None, is_shown: bool) -> Seen:
    try:
        with _decoders:
            pixels = images.decode(images.encoded_in(cell), wanted=None).pixels
            return seen._replace(decoded=True, picture=small(pixels) if is_shown else None)
    except images.BadImage as bad:
        return seen._replace(decoded=True, fault=(bad.reason, str(bad)))


def _unreadable(row: int, key: str, column: str, error: Exception) -> Seen:
    fault = (UNREADABLE, one_line(error))
    return Seen(row, key, column, UNREADABLE, UNKNOWN, 0, 0, -1, b"", False, fault, None)
