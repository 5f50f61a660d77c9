"""Places of the pages of a chunk: from its offset index where it has one, else by walking from header to header."""

from __future__ import annotations

import contextlib
import io
from typing import IO, NamedTuple

from pipeline.storage.retry import BadBody
from pipeline.stores.forms.groups import thrift
from pipeline.stores.forms.groups.layout import Chunk, content
from pipeline.stores.forms.groups.thrift import Struct

DATA, INDEX, DICTIONARY, DATA_V2 = range(4)
"""Types of pages."""
_WINDOW_BYTES = 16_384
"""Bytes to read at a time where page headers are looked for: those of images are in a hundred bytes."""


class Page(NamedTuple):
    """Place of a data page of a flat leaf."""

    start: int
    """Position of its header in the file."""
    stop: int
    """Position behind its last byte."""
    first: int
    """Number of its first row in the row group."""
    rows: int


class Pages(NamedTuple):
    """Places of all pages of a chunk."""

    dictionary: tuple[int, int] | None
    """Start and stop of its dictionary page, where it has one."""
    data: list[Page]
    """Data pages in the order of their rows, each right behind the one before."""


class Header(NamedTuple):
    """Header of a page."""

    type: int
    size: int
    """Number of its own bytes and those of the page."""
    uncompressed: int
    """The same, with the page as it is before it is compressed."""
    rows: int
    """Number of a data page's values, nulls included."""
    needs_dictionary: bool
    """True where its values are places in the dictionary page."""


def read_bytes(file: IO[bytes], start: int, stop: int) -> bytes:
    """Return bytes `start` to `stop`. Raises BadBody where they are not all there."""
    file.seek(start)
    parts, missing = [], stop - start
    while missing and (part := file.read(missing)):
        parts.append(part)
        missing -= len(part)
    if missing:
        raise BadBody(f"read {stop - start - missing} bytes of {stop - start} from {start}")
    return b"".join(parts)


def header_at(data: bytes, at: int) -> Header:
    """Return the page header that begins at byte `at`.

    Raises EOFError where the data end before it does, and BadBody where there is none.
    """
    try:
        found, end = thrift.decode(data, at)
        sizes = content(found, 2), content(found, 3)
        of_type: Struct = content(found, {DATA: 5, DATA_V2: 8, DICTIONARY: 7}.get(content(found, 1), 0), {})
        rows, encoding = content(of_type, 1, 0), content(of_type, 4 if content(found, 1) == DATA_V2 else 2, 0)
        if min(*sizes, rows) < 0:
            raise ValueError("a negative size")
    except (ValueError, TypeError) as error:
        raise BadBody(f"no header of a Parquet page: {error}") from error
    return Header(content(found, 1), end - at + sizes[1], end - at + sizes[0], rows, encoding in (2, 8))


def header_of(page: bytes) -> Header:
    """Return the header of a page. Raises BadBody where there is none."""
    try:
        return header_at(page, 0)
    except EOFError as error:
        raise BadBody(f"no header of a Parquet page: {error}") from error


def find_pages(file: IO[bytes], chunk: Chunk) -> Pages:
    """Return the places of all pages of a flat leaf's chunk.

    Neither an index nor a header has a checksum. So a walk is whole, since its rows must add up to those of the row
    group; an index is read twice, and has to be compared with the headers of the pages that are read. Raises BadBody
    where it makes no sense.
    """
    return (_indexed(file, *chunk.offset_index, chunk) if chunk.offset_index else None) or _walked(file, chunk)


def check_chunk(data: bytes, chunk: Chunk) -> None:
    """Raise BadBody where the pages of a whole chunk, of any leaf, have not as many values as its footer says."""
    _walked(io.BytesIO(data), Chunk(0, len(data), chunk.rows, None))


def _indexed(file: IO[bytes], start: int, length: int, chunk: Chunk) -> Pages | None:
    """Return the pages of an offset index, or None where they do not fill the chunk, one right behind the other."""
    data, again = (read_bytes(file, start, start + length) for _ in range(2))
    if data != again:
        raise BadBody(f"the offset index at {start} came differently when read twice")
    try:
        index, _ = thrift.decode(data)
        places = [(content(each, 1), content(each, 2), content(each, 3)) for each in content(index, 1)]
        firsts = [first for _, _, first in places] + [chunk.rows]
        pages = [Page(at, at + size, firsts[i], firsts[i + 1] - firsts[i]) for i, (at, size, _) in enumerate(places)]
    except (ValueError, EOFError, TypeError) as error:
        raise BadBody(f"no offset index of a Parquet column: {error}") from error
    begins, ends = [page.start for page in pages] + [chunk.stop], [page.stop for page in pages]
    if begins[1:] != ends or firsts != sorted(firsts) or firsts[0]:
        return None
    return Pages((chunk.start, begins[0]) if begins[0] > chunk.start else None, pages)


def _walked(file: IO[bytes], chunk: Chunk) -> Pages:
    dictionary, pages = None, list[Page]()
    at, first, window, begin = chunk.start, 0, b"", chunk.start
    while at < chunk.stop:
        try:
            header = header_at(window, at - begin)
        except EOFError:
            begin, (window, header) = at, _window(file, at, chunk.stop)
        if header.type == DICTIONARY:
            dictionary = at, at + header.size
        elif header.type in (DATA, DATA_V2):
            pages.append(Page(at, at + header.size, first, header.rows))
            first += header.rows
        at += header.size
    if (at, first) != (chunk.stop, chunk.rows):
        raise BadBody(f"pages of {first} rows that end at {at}, and not of {chunk.rows} that end at {chunk.stop}")
    return Pages(dictionary, pages)


def _window(file: IO[bytes], start: int, stop: int) -> tuple[bytes, Header]:
    """Return bytes from `start` on that hold a page header, and that header: some writers put whole values into it."""
    for size in (_WINDOW_BYTES, 64 * _WINDOW_BYTES, stop - start):
        window = read_bytes(file, start, min(stop, start + size))
        with contextlib.suppress(EOFError):
            return window, header_at(window, 0)
    raise BadBody(f"a page header at {start} that does not end before its column does, at {stop}")
