"""Excerpt of a row group: a Parquet file in memory, of the pages that some of its rows need and nothing else.

pyarrow reads a row group from its first row on, with all pages before those that are wanted. So each large leaf gets
one page of nulls for the rows in front (a few bytes, whatever their number), followed by the pages that are wanted as
they are in the shard, checksums included; small leaves are taken whole. Row numbers stay those of the row group.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from typing import IO, NamedTuple

import pyarrow as pa

from pipeline.storage.retry import BadBody
from pipeline.stores.forms.groups import thrift
from pipeline.stores.forms.groups.layout import BYTE_ARRAY, Chunk, Layout, Leaf, chunk_of, content, described
from pipeline.stores.forms.groups.pages import DATA_V2, Page, Pages, check_chunk, header_of, read_bytes
from pipeline.stores.forms.groups.thrift import I32, I64, Struct

_LARGE_BYTES = 1_000_000
"""Size from which a leaf's pages are looked for, rather than its whole chunk read."""
_GAP_BYTES = 16_384
"""Bytes between two pieces that are read with them rather than asked around."""
_MAGIC = b"PAR1"


class Cut(NamedTuple):
    """Part of the pages of a leaf."""

    dictionary: tuple[int, int] | None
    """Start and stop of the dictionary page, which only some of them may need."""
    data: Sequence[Page]

    @property
    def size(self) -> int:
        """Number of bytes to be read, that of the dictionary page included."""
        return sum(stop - start for start, stop in filter(None, [self.dictionary, _span(self)]))


class Plan(NamedTuple):
    """Pieces of a row group that some of its rows need."""

    group: int
    start: int
    """Number of the first row wanted, in the row group."""
    stop: int
    pieces: dict[int, Chunk | Cut]
    """Piece to read of each leaf that is wanted, by the leaf's number."""

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces.values())


def planned(
    layout: Layout, group: int, start: int, stop: int, leaves: Sequence[int], pages: Callable[[int, Chunk], Pages]
) -> Plan:
    """Return what to read for rows `start` to `stop` of these leaves of a row group.

    `pages` returns the places of the pages of a leaf, given its number and its chunk.
    """
    pieces = dict[int, Chunk | Cut]()
    for i in leaves:
        pieces[i] = chunk = chunk_of(described(layout, group)[i])
        if is_cuttable(layout.leaves[i]) and chunk.size > _LARGE_BYTES:
            dictionary, data = pages(i, chunk)
            first = bisect.bisect_right(data, start, key=lambda page: page.first) - 1
            pieces[i] = Cut(dictionary, data[first : bisect.bisect_left(data, stop, key=lambda page: page.first)])
    return Plan(group, start, stop, pieces)


def is_cuttable(leaf: Leaf) -> bool:
    """Return True where single pages of a leaf can be read: those of one value of any length a row."""
    return leaf.is_flat and leaf.physical == BYTE_ARRAY


def read_excerpt(file: IO[bytes], layout: Layout, plan: Plan) -> pa.Buffer:
    """Return the excerpt as a Parquet file, which has the rows before `plan.stop`, with nulls in front.

    Leaves that are not wanted are in its schema, but cannot be read. Raises BadBody where page headers, which have no
    checksums, contradict the footer or the plan: rows would be shifted.
    """
    spans = [_span(piece) for piece in plan.pieces.values()]
    found = dict(zip(plan.pieces, _read_spans(file, spans), strict=True))
    columns = list(described(layout, plan.group))
    parts, at = [_MAGIC], len(_MAGIC)
    for i, piece in plan.pieces.items():
        if isinstance(piece, Chunk):
            check_chunk(found[i], piece)
            columns[i], chunk = _moved(columns[i], at - piece.start), [found[i]]
        else:
            columns[i], chunk = _joined(file, columns[i], layout.leaves[i], piece, found[i], at)
        parts += chunk
        at += sum(map(len, chunk))
    del found
    group = {1: (thrift.LIST, (thrift.STRUCT, columns)), 2: (I64, at), 3: (I64, plan.stop)}
    footer = thrift.encode(layout.footer | {3: (I64, plan.stop), 4: (thrift.LIST, (thrift.STRUCT, [group]))})
    return pa.py_buffer(b"".join([*parts, footer, len(footer).to_bytes(4, "little"), _MAGIC]))


def _span(piece: Chunk | Cut) -> tuple[int, int]:
    return (piece.start, piece.stop) if isinstance(piece, Chunk) else (piece.data[0].start, piece.data[-1].stop)


def _read_spans(file: IO[bytes], spans: Sequence[tuple[int, int]]) -> list[bytes]:
    """Return the bytes of each span; spans that are close to each other are read at once."""
    order, found = sorted(range(len(spans)), key=spans.__getitem__), [b""] * len(spans)
    while order:
        run = [order.pop(0)]
        while order and spans[order[0]][0] - spans[run[-1]][1] <= _GAP_BYTES:
            run.append(order.pop(0))
        begin = spans[run[0]][0]
        data = read_bytes(file, begin, spans[run[-1]][1])
        for i in run:
            found[i] = data[spans[i][0] - begin : spans[i][1] - begin]
    return found


def _moved(column: Struct, by: int) -> Struct:
    """Return the description of a chunk that is read whole, and is `by` bytes further on in the excerpt."""
    about = content(column, 3)
    places = {i: (I64, about[i][1] + by) for i in (9, 10, 11) if about.get(i, (I64, 0))[1] > 0}
    return {2: (I64, 0), 3: (thrift.STRUCT, _without(about, 14, 15) | places)}


def _joined(file: IO[bytes], column: Struct, leaf: Leaf, cut: Cut, data: bytes, at: int) -> tuple[Struct, list[bytes]]:
    """Return the description of a chunk of some pages, which begins at `at` in the excerpt, and its bytes."""
    headers = [header_of(data[page.start - cut.data[0].start : page.stop - cut.data[0].start]) for page in cut.data]
    for page, header in zip(cut.data, headers, strict=True):
        if (header.size, header.rows) != (page.stop - page.start, page.rows):
            raise BadBody(f"a page of {header.rows} rows at {page.start}, where one of {page.rows} was to be")
    nulls, dictionary = _page_of_nulls(cut.data[0].first, leaf.levels), b""
    if any(header.needs_dictionary for header in headers):
        if cut.dictionary is None:
            raise BadBody(f"a page at {cut.data[0].start} needs a dictionary page, and there is none")
        dictionary = read_bytes(file, *cut.dictionary)
        headers.append(header_of(dictionary))
    about = _without(content(column, 3), 10, 11, 12, 13, 14, 15, 16, 17) | {
        5: (I64, cut.data[-1].first + cut.data[-1].rows),
        6: (I64, len(nulls) + sum(header.uncompressed for header in headers)),
        7: (I64, len(dictionary) + len(nulls) + len(data)),
        9: (I64, at + len(dictionary)),
    }
    if dictionary:
        about[11] = I64, at
    return {2: (I64, 0), 3: (thrift.STRUCT, about)}, [dictionary, nulls, data]


def _page_of_nulls(rows: int, levels: int) -> bytes:
    """Return a page of nulls for a leaf; a required one, which has no nulls, gets empty values."""
    if not rows:
        return b""
    # One run of definition level 0, which takes a byte for any leaf.
    defined, values = (thrift.varint(rows << 1) + b"\0", b"") if levels else (b"", bytes(4 * rows))
    size, number = (I32, len(defined) + len(values)), (I32, rows)
    # Of both versions of a page, only this one can be uncompressed in any chunk. Values are PLAIN, which is 0.
    of_version_2 = {
        1: number, 2: number if levels else (I32, 0), 3: number, 4: (I32, 0), 5: (I32, len(defined)), 6: (I32, 0),
        7: (thrift.FALSE, None),
    }  # fmt: skip
    return thrift.encode({1: (I32, DATA_V2), 2: size, 3: size, 8: (thrift.STRUCT, of_version_2)}) + defined + values


def _without(struct: Struct, *numbers: int) -> Struct:
    return {number: field for number, field in struct.items() if number not in numbers}
