from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.stores.forms.groups.recent import Recent


def footer(rows: int) -> pq.FileMetaData:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"x": range(rows)}), buffer)
    return pq.read_metadata(buffer)


SIZE = footer(3).serialized_size


Footers = Recent[pq.FileMetaData]


def recent(most_bytes: int) -> Footers:
    return Footers(most_bytes, lambda footer: footer.serialized_size)


class Reads:
    """Counter of reads of footers, by shard."""

    def __init__(self) -> None:
        self.of: list[str] = []

    def get(self, footers: Footers, url: str, version: str = "1") -> None:
        def read() -> pq.FileMetaData:
            self.of.append(url)
            return footer(3)

        assert footers.get((url, version), read).num_rows == 3


def test_a_footer_is_read_once_and_again_where_the_shard_has_changed() -> None:
    footers, reads = recent(10 * SIZE), Reads()
    for version in ("1", "1", "2", "2"):
        reads.get(footers, "a", version)
    assert reads.of == ["a", "a"]


def test_the_least_recently_used_is_forgotten_where_they_are_too_many() -> None:
    footers, reads = recent(2 * SIZE), Reads()
    for url in ("a", "b", "a", "c", "a", "c", "b"):
        reads.get(footers, url)
    assert reads.of == ["a", "b", "c", "b"]


def test_one_is_kept_however_large() -> None:
    footers, reads = recent(1), Reads()
    for url in ("a", "a", "b", "b", "a"):
        reads.get(footers, url)
    assert reads.of == ["a", "b", "a"]


def test_who_comes_while_it_is_read_waits_for_it() -> None:
    footers, reading, go_on = recent(10 * SIZE), threading.Event(), threading.Event()
    reads: list[int] = []

    def read() -> pq.FileMetaData:
        reads.append(1)
        reading.set()
        go_on.wait()
        return footer(3)

    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(footers.get, ("a", "1"), read)
        reading.wait()
        others = [threads.submit(footers.get, ("a", "1"), read) for _ in range(3)]
        go_on.set()
        found = [future.result() for future in (first, *others)]
    assert len(reads) == 1
    assert all(each is found[0] for each in found)


def test_a_read_that_fails_is_not_kept() -> None:
    def fail() -> pq.FileMetaData:
        raise OSError("no answer")

    footers, reads = recent(10 * SIZE), Reads()
    with pytest.raises(OSError, match="no answer"):
        footers.get(("a", "1"), fail)
    reads.get(footers, "a")
    assert reads.of == ["a"]
