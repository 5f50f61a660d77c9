from __future__ import annotations

import io

import numpy as np
import pytest

from pipeline.stores.forms.tars.index import index_of
from pipeline.stores.forms.tars.ranges import fetched, in_memory, skimming
from tests.tars import tar_of


class Counted(io.BytesIO):
    """File that counts what is read of it."""

    requests, bytes = 0, 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.requests, self.bytes = self.requests + 1, self.bytes + len(data)
        return data


@pytest.mark.parametrize(
    ("size", "count", "most_requests", "most_share"),
    [(2_000_000, 20, 45, 0.01), (300, 4000, 25, 1.01), (30_000, 300, 30, 1.01)],
)
def test_headers_take_few_requests_and_leave_out_large_files(
    size: int, count: int, most_requests: int, most_share: float
) -> None:
    data = tar_of(
        (f"{i}.{ending}", bytes(size if ending == "jpg" else 50)) for i in range(count) for ending in ("jpg", "json")
    )
    file = Counted(data)
    index = index_of(skimming(file, near=False), len(data))
    assert len(index) == count
    assert file.requests <= most_requests
    assert file.bytes <= most_share * len(data)


def test_files_are_fetched_in_runs() -> None:
    offsets, sizes = np.array([0, 600, 700, 200_000]), np.array([500, 100, 0, 7])
    content, asked = bytes(range(256)) * 1000, []

    def read(offset: int, size: int) -> bytes:
        asked.append((offset, size))
        return content[offset : offset + size]

    found = fetched(read, offsets, sizes)
    assert found == [content[o : o + s] for o, s in zip(offsets, sizes, strict=True)]
    assert asked == [(0, 700), (200_000, 7)]
    assert fetched(read, offsets[:0], sizes[:0]) == []
    with pytest.raises(OSError, match="ends after"):
        fetched(in_memory(content[:650]), offsets, sizes)
