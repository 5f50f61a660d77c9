"""Formats and sizes of inputs: by their listing, and by the headers of some that are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pipeline import images, storage
from pipeline.engine.estimate.drawing import draw_rows
from pipeline.engine.records.units import Unit
from pipeline.errors import StorageError
from pipeline.stores import SourceChangedError, read_rows
from pipeline.stores.forms.registry import form_of_ranges
from pipeline.stores.tables.ranges import Range

LOOKED_AT = 64
"""Images of which the headers are read."""
_RUN = 4
"""Neighbours in a Parquet shard that are looked at together."""
_FIRST_BYTES = 1 << 16
"""Bytes that are read of a file at first; the size of most is in them."""
_MOST_BYTES = 32_000_000
"""Encoded bytes of a row group, or of a file, beyond which it is not read for a look."""
_THREADS = 16

UNREADABLE, UNKNOWN = "not readable", "other"


class Header(NamedTuple):
    """What the first bytes of an image say."""

    format: str
    """One of `images.FORMATS`, UNKNOWN, or UNREADABLE where the image could not be read."""
    width: int
    """Pixels, as stored; 0, like the height, where the bytes do not say it."""
    height: int


class Looked(NamedTuple):
    """Images that were looked at."""

    headers: Sequence[Header]
    of: int
    """Images from which they were drawn."""

    @property
    def pixels(self) -> float | None:
        """Return the mean number of pixels of those that say it; None where none does."""
        known = [header.width * header.height for header in self.headers if header.width]
        return sum(known) / len(known) if known else None


def format_of_ending(ending: str) -> str:
    """Return the format that files of this ending have; the images decide what they are."""
    return images.ENDINGS.get(ending, UNKNOWN)


def look(units: Sequence[Unit], column: str, of: int) -> Looked:
    """Return the headers of some images in `column` of these units, which were drawn from `of` images."""
    ranges = [each for unit in units for each in unit.ranges]
    if not ranges:
        return Looked((), of)
    files = form_of_ranges(ranges).names_are_keys
    drawn = draw_rows(units, LOOKED_AT, run=1 if files else _RUN, most_bytes=None if files else _MOST_BYTES)
    if not drawn:
        return Looked((), of)
    with ThreadPoolExecutor(min(_THREADS, len(drawn))) as threads:
        found = threads.map(_file if files else lambda piece: _cells(piece, column), drawn)
        return Looked([header for headers in found for header in headers], of)


def _file(piece: Range) -> list[Header]:
    try:
        return [_header(first_bytes(piece))]
    except (OSError, StorageError):
        return [Header(UNREADABLE, 0, 0)]


def first_bytes(piece: Range) -> bytes:
    """Return the beginning of an image file, or all of it where the beginning does not say the image's size.

    Raises OSError or StorageError where it cannot be read.
    """
    with storage.open_read(piece.url, storage.Entry(piece.shard, piece.url, piece.size, piece.version)) as file:
        data = file.read(_FIRST_BYTES)
    if images.size_of(data)[0] == 0 and len(data) < piece.size <= _MOST_BYTES:  # a long profile, or a TIFF's end
        data = storage.read(piece.url)
    return data


def _cells(piece: Range, column: str) -> list[Header]:
    try:
        rows = read_rows([piece], [column])[column].to_pylist()
    except (OSError, StorageError, SourceChangedError):
        return [Header(UNREADABLE, 0, 0)] * piece.rows
    return [_header((cell or {}).get("bytes") or b"") for cell in rows]


def _header(data: bytes) -> Header:
    return Header(images.format_of(data) or UNKNOWN, *images.size_of(data))


class Inputs(NamedTuple):
    """Inputs of one format."""

    format: str
    images: int
    size: int
    """Encoded bytes."""
    counted: bool
    """False where number and bytes are estimated by the images that were looked at."""
    median: tuple[int, int] | None
    """Width and height in pixels of the image in the middle of those that were looked at, by pixels."""
    largest: tuple[int, int] | None


def inputs_by_format(endings: Mapping[str, tuple[int, int]], rows: int, size: int, looked: Looked) -> list[Inputs]:
    """Return the inputs by format, the most frequent first.

    `endings` are numbers and bytes of files by the ending of their names, and empty where the images are in shards:
    the images that were looked at then stand for all `rows` and all `size` bytes.
    """
    seen = dict[str, list[tuple[int, int]]]()
    for header in looked.headers:
        seen.setdefault(header.format, []).append((header.width, header.height))
    counted = dict[str, tuple[int, int]]()
    for ending, (count, of) in endings.items():
        before = counted.get(name := format_of_ending(ending), (0, 0))
        counted[name] = (before[0] + count, before[1] + of)
    if not endings:
        total = len(looked.headers)
        shares = {name: len(sizes) / total for name, sizes in seen.items()} or {"not known": 1.0}
        counted = {name: (round(rows * share), round(size * share)) for name, share in shares.items()}
    found = []
    for name, (count, of) in counted.items():
        known = sorted((each for each in seen.get(name, ()) if each[0]), key=lambda each: each[0] * each[1])
        median = known[(len(known) - 1) // 2] if known else None
        found.append(Inputs(name, count, of, bool(endings), median, known[-1] if known else None))
    return sorted(found, key=lambda each: (-each.images, each.format))
