"""Requests that a job makes at a real S3 server, by source shard, unit and image; docs/performance.md has the table."""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import pack
from pipeline import images, storage
from pipeline.engine.estimate.requests import FIRST_BYTES, SHEET_OF_QUARANTINED, UNIT_OF_QUARANTINED
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


def moving_picture() -> bytes:
    """Return an image of several frames, which is quarantined, and shown in the report."""
    buffer, frames = io.BytesIO(), [Image.new("RGB", (24, 24), colour) for colour in ("red", "blue")]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


@pytest.mark.parametrize("files", [True, pytest.param(False, marks=pytest.mark.long)])
def test_quarantined_inputs_take_no_more_than_is_said(proxy: Proxy, files: bool) -> None:
    """One in each of three units, after those whose rows the report shows."""
    bad, moving, found = {12, 16, 20}, moving_picture(), list[tuple[int, int, int]]()
    for quarantined in (set[int](), bad):
        prefix = f"s3://{seaweed.BUCKET}/{uuid.uuid4().hex[:12]}"
        cells = [moving if i in quarantined else PICTURE for i in range(24)]
        if files:
            for i, cell in enumerate(cells):
                storage.replace(f"{prefix}/in/{i:03d}.{'webp' if i in quarantined else 'png'}", cell)
        else:
            keys = [f"{i:03d}" for i in range(24)]
            buffer = pa.BufferOutputStream()
            pq.write_table(pa.table({"key": keys, "image": image_array(cells, keys)}), buffer, row_group_size=4)
            storage.replace(f"{prefix}/in/0.parquet", buffer.getvalue().to_pybytes())
        forget()
        proxy.requests.clear()
        job = ["--input", f"{prefix}/in", "--output", f"{prefix}/out", "--local", "--limits.rows", "4"]
        assert pack.main([*job, "--budget.share", "1"]) == 0
        of_input = sum("/in/" in f"/{each.key}" for each in proxy.requests)
        of_output = [each for each in proxy.requests if "/out/" in f"/{each.key}"]
        puts = sum(each.method == "PUT" for each in of_output)
        found.append((puts, len(of_output) - puts, of_input))
    puts, gets, reads = (after - before for before, after in zip(*found, strict=True))
    assert (puts, gets) == (3 * UNIT_OF_QUARANTINED.put, 3 * UNIT_OF_QUARANTINED.get)
    assert 3 <= reads <= SHEET_OF_QUARANTINED.get_input
