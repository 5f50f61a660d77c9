"""Reading of a tar by ranges: its headers with few requests, and the files of some samples with fewer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import IO

import numpy as np

from pipeline.stores.forms.tars.headers import Read

_LEAST, _MOST = 4096, 1 << 20
"""Bytes of a request for headers: few where files are large, and more where a request costs more than its bytes."""
_WORTH_A_REQUEST = 1 << 18
"""Bytes that take about as long to fetch as another request."""
_RUN = 32_000_000
"""Bytes of files to fetch at a time."""
_GAP = 1 << 16
"""Bytes between two files beyond which they are fetched one by one."""


def skimming(file: IO[bytes], *, near: bool) -> Read:
    """Return a function that reads a tar's headers, at ever later offsets, from a seekable file.

    Where it is `near`, on a disk, a read costs nothing. On a server, headers that lie close to each other come
    together, files between them included, and larger files are left out.
    """
    held, start, length = b"", 0, _LEAST

    def read(offset: int, size: int) -> bytes:
        nonlocal held, start, length
        if not start <= offset <= offset + size <= start + len(held):
            if not near:
                gap = offset - (start + len(held))
                length = min(2 * length, _MOST) if 0 <= gap < _WORTH_A_REQUEST else _LEAST
            file.seek(offset)
            held, start = file.read(max(size, length)), offset
        return held[offset - start : offset - start + size]

    return read


def in_memory(data: bytes) -> Read:
    """Return a function that reads from bytes."""
    return lambda offset, size: data[offset : offset + size]


def fetched(read: Callable[[int, int], bytes], offsets: np.ndarray, sizes: np.ndarray) -> list[bytes]:
    """Return the bytes of these files, in their order; files that lie close to each other are fetched together.

    `offsets` ascend. Raises TarError where the tar ends before them.
    """
    found = list[bytes]()
    starts, stops = offsets.tolist(), (offsets + sizes).tolist()
    for begin, end in _runs(starts, stops):
        data = read(starts[begin], stops[end - 1] - starts[begin])
        if len(data) < stops[end - 1] - starts[begin]:
            raise OSError(f"ends after {starts[begin] + len(data)} bytes, and a file in it goes to {stops[end - 1]}")
        view = memoryview(data)
        found += [bytes(view[starts[i] - starts[begin] : stops[i] - starts[begin]]) for i in range(begin, end)]
    return found


def _runs(starts: Sequence[int], stops: Sequence[int]) -> list[tuple[int, int]]:
    """Return the positions, from and to before, of files that are fetched together."""
    runs, begin = list[tuple[int, int]](), 0
    for i in range(1, len(starts)):
        if starts[i] - stops[i - 1] > _GAP or stops[i] - starts[begin] > _RUN:
            runs.append((begin, i))
            begin = i
    return [*runs, (begin, len(starts))] if starts else runs
