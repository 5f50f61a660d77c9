"""Requests that a job makes at a real S3 server, by source shard, unit and image; docs/performance.md has the table."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import pack
from pipeline import images, storage
from pipeline.engine.estimate.requests import FIRST_BYTES
from pipeline.engine.records import layout
from pipeline.stores import open_store
from pipeline.stores.forms import parquet, webdataset
from pipeline.stores.forms.groups import reading
from pipeline.stores.tables.options import StoreOptions
from pipeline.stores.tables.schema import image_array
from tests import corpus, seaweed
from tests import proxy as faults
from tests.proxy import Proxy
from tests.tars import write_tar

ROOT = Path(__file__).parents[2]
PICTURE = images.encode(corpus.picture(1), images.Encoding(codec="png"))


class Size(NamedTuple):
    """Size of a corpus."""

    shards: int
    """Shards of its rows, each in one or several units; none where each image is a file."""
    units: int
    rows: int
    """Rows of a unit."""


@pytest.fixture
def proxy(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with faults.between(s3_server, monkeypatch) as between:
        yield between


def write_shards(url: str, size: Size) -> None:
    rows = size.units * size.rows // size.shards
    for i in range(size.shards):
        keys = [f"{i}-{row}" for row in range(rows)]
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.table({"key": keys, "image": image_array([PICTURE] * rows, keys)}), buffer)
        storage.replace(f"{url}/{i:03d}.parquet", buffer.getvalue().to_pybytes())


def write_tars(url: str, size: Size) -> None:
    rows = size.units * size.rows // size.shards
    for i in range(size.shards):
        write_tar(f"{url}/{i:03d}.tar", [(f"{i}-{row}.png", PICTURE) for row in range(rows)])


def write_images(url: str, size: Size) -> None:
    for i in range(size.units * size.rows):
        storage.replace(f"{url}/{i:03d}.png", PICTURE)


def forget() -> None:
    """Forget what this process has read: the phases are those of processes of their own."""
    of_tars = webdataset._indexes, webdataset._layouts
    for known in (parquet._footers, reading._layouts, reading._pages, reading._spools, *of_tars):
        known._held.clear()
    for cached in (layout._segment, layout._footer, layout._unit_group):
        cached.cache_clear()


def costs(proxy: Proxy, write: Callable[[str, Size], None], size: Size, *options: str) -> dict[str, int]:
    """Return the number of requests of each phase of a job with these options over a corpus of this size."""
    prefix = f"s3://{seaweed.BUCKET}/{uuid.uuid4().hex[:12]}"
    write(f"{prefix}/in", size)
    job = ["--input", f"{prefix}/in", "--output", f"{prefix}/out", "--local", "--limits.rows", str(size.rows)]
    job += options

    def requests(*more: str) -> int:
        forget()
        proxy.requests.clear()
        assert pack.main([*job, *more]) == 0
        return len(proxy.requests)

    found = {"plan": requests("--dry_run"), "whole run": requests(), "again when complete": requests()}
    for name in ("_SUCCESS", "_transdomain/manifest.parquet"):
        storage.delete(f"{prefix}/out/{name}")
    found["finish, all units committed"] = requests()
    storage.delete(f"{prefix}/out/_SUCCESS")
    storage.delete(f"{prefix}/out/_transdomain/commits/000000-000000.json")
    found["resume, one unit left"] = requests()
    return found


def per(of: int, before: dict[str, int], after: dict[str, int]) -> dict[str, float]:
    """Return how many requests of each phase the difference between two corpora is, for one of so many."""
    return {phase: (after[phase] - before[phase]) / of for phase in before}


def documented() -> dict[str, list[float]]:
    """Return the table of docs/performance.md: numbers by phase, those of tars last."""
    text = (ROOT / "docs" / "performance.md").read_text()
    section = text[text.index("## Requests") :]
    rows = re.findall(r"^\| ([^|]+?) \|((?: [\d.]+ \|){5})$", section, re.MULTILINE)
    return {phase: list(map(float, re.findall(r"[\d.]+", numbers))) for phase, numbers in rows}


def test_the_costs_are_those_of_the_table(proxy: Proxy) -> None:
    small = costs(proxy, write_shards, Size(shards=4, units=8, rows=2))
    units = per(4, small, costs(proxy, write_shards, Size(shards=4, units=12, rows=2)))
    shards = per(4, small, costs(proxy, write_shards, Size(shards=8, units=8, rows=2)))
    table = {phase: [shards[phase], units[phase]] for phase in small}
    for phase, numbers in table.items():
        print(f"| {phase} | {' | '.join(f'{number:g}' for number in numbers)} |")
    assert {phase: numbers[:2] for phase, numbers in documented().items()} == table


@pytest.mark.long
def test_the_costs_of_images_are_those_of_the_table(proxy: Proxy) -> None:
    images_of = per(
        4,
        costs(proxy, write_images, Size(shards=0, units=2, rows=6)),
        costs(proxy, write_images, Size(shards=0, units=2, rows=8)),
    )
    for phase, number in images_of.items():
        print(f"| {phase} | {number:g} |")
    assert {phase: numbers[2] for phase, numbers in documented().items()} == images_of


@pytest.mark.long
def test_the_costs_of_tars_are_those_of_the_table(proxy: Proxy) -> None:
    """Tars are read and written."""
    form = ("--form", "webdataset")
    small = costs(proxy, write_tars, Size(shards=4, units=8, rows=2), *form)
    units = per(4, small, costs(proxy, write_tars, Size(shards=4, units=12, rows=2), *form))
    tars = per(4, small, costs(proxy, write_tars, Size(shards=8, units=8, rows=2), *form))
    table = {phase: [tars[phase], units[phase]] for phase in small}
    for phase, numbers in table.items():
        print(f"| {phase} | {' | '.join(f'{number:g}' for number in numbers)} |")
    assert {phase: numbers[3:] for phase, numbers in documented().items()} == table


def test_files_of_any_extension_take_a_request_each(proxy: Proxy) -> None:
    prefix = f"s3://{seaweed.BUCKET}/{uuid.uuid4().hex[:12]}"
    for i in range(5):
        storage.replace(f"{prefix}/scan-{i}", PICTURE)
    storage.replace(f"{prefix}/known.png", PICTURE)
    proxy.requests.clear()
    store = open_store(prefix, options=StoreOptions(extensions="any"))
    assert store.first_bytes == 5
    assert len(proxy.seen("GET", "scan-")) == 5 * sum(FIRST_BYTES)
    assert not proxy.seen("GET", "known")
