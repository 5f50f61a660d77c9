from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.estimate import requests
from pipeline.engine.estimate.requests import Each, expected_requests

ROOT = Path(__file__).parents[4]


def test_the_constants_are_those_of_the_documented_tables() -> None:
    """tests/integration/test_request_costs.py counts them at a server."""
    section = (ROOT / "docs/performance.md").read_text().partition("## Requests")[2].partition("\n## ")[0]
    run = re.search(r"^\| whole run \| (\d+) \| (\d+) \| (\d+) \|", section, re.MULTILINE)
    assert run
    shard, unit, image = (
        sum(map(sum, of))
        for of in (
            (requests.SHARD, requests.SHARD_KEYS),
            (requests.UNIT, requests.UNIT_KEYS, requests.UNIT_OF_SHARDS),
            (requests.FILE,),
        )
    )
    assert list(map(int, run.groups())) == [shard, unit, image]
    rows = re.findall(r"^\| `([A-Z_]+)` \| [^|]+ \| (\d+) \| (\d+) \| (\d+) \|$", section, re.MULTILINE)
    there = {name: value for name, value in vars(requests).items() if isinstance(value, Each)}
    assert {name: Each(*map(int, numbers)) for name, *numbers in rows} == there


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**4), *[st.booleans()] * 5)
def test_requests_go_to_the_servers_that_are_there(
    units: int, images: int, shards: int, files: bool, files_written: bool, keys: bool, reads: bool, writes: bool
) -> None:
    def found(reads_s3: bool, writes_s3: bool) -> tuple[int, int]:
        return expected_requests(
            units=units, images=images, shards=shards, files=files, files_written=files_written, keys=keys,
            reads_s3=reads_s3, writes_s3=writes_s3,
        )  # fmt: skip

    assert found(False, False) == (0, 0)
    more = expected_requests(
        units=units, images=images, shards=shards, files=files, files_written=files_written, keys=keys,
        reads_s3=reads, writes_s3=writes, first_bytes=7,
    )  # fmt: skip
    assert more.get - found(reads, writes)[1] == 7 * reads
    both = [sum(each) for each in zip(found(True, False), found(False, True), strict=True)]
    assert found(True, True) == tuple(both)
    assert all(one <= two for one, two in zip(found(reads, writes), both, strict=True))
