"""Shards as files: the page index that other readers seek by, and outputs that an earlier version began."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import pack, verify
from pipeline import images, storage
from pipeline.stores.forms import shard
from pipeline.stores.tables.schema import image_column
from tests import corpus


def rows(count: int) -> pa.Table:
    pictures = [images.encode(corpus.picture(i), images.Encoding()) for i in range(count)]
    return pa.table({"key": [f"{i:03d}" for i in range(count)], "image": image_column(pictures, [None] * count)})


def test_every_column_has_an_offset_index_and_all_but_pictures_a_column_index() -> None:
    encoded = shard.encode_shard(rows(20), {"note": "kept"})
    footer = pq.ParquetFile(io.BytesIO(encoded)).metadata
    assert footer.num_row_groups == 1
    chunks = [footer.row_group(0).column(i) for i in range(footer.num_columns)]
    assert {chunk.path_in_schema: chunk.has_offset_index for chunk in chunks} == {
        "key": True, "image.bytes": True, "image.path": True
    }  # fmt: skip
    assert {chunk.path_in_schema: chunk.has_column_index for chunk in chunks} == {
        "key": True, "image.bytes": False, "image.path": True
    }  # fmt: skip
    assert encoded == shard.encode_shard(rows(20), {"note": "kept"})


def without_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write shards as an earlier version did."""
    writer = pq.ParquetWriter

    def older(*arguments: Any, write_page_index: bool = False, **options: Any) -> pq.ParquetWriter:
        return writer(*arguments, **options)

    monkeypatch.setattr(shard.pq, "ParquetWriter", older)


@pytest.mark.parametrize(("count", "size"), [(2048, 30_000), pytest.param(64, 2_000_000, marks=pytest.mark.long)])
def test_the_index_costs_little(count: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "key": [f"folder/{i:06d}.jpg" for i in range(count)],
            "image": image_column([rng.bytes(size) for _ in range(count)], [f"{i}.jpg" for i in range(count)]),
            **{f"column_{i}": rng.integers(0, 100, count) for i in range(8)},
        }
    )
    new = shard.encode_shard(table, {})
    without_index(monkeypatch)
    old = shard.encode_shard(table, {})
    groups, more = pq.ParquetFile(io.BytesIO(new)).metadata.num_row_groups, len(new) - len(old)
    print(f"{count} pictures of {size} bytes, {groups} row groups: {more} bytes more, {more / len(old):.4%}")
    assert 0 < more < 2e-4 * len(old)


def test_a_shard_without_rows_has_no_row_group_still() -> None:
    footer = pq.ParquetFile(io.BytesIO(shard.encode_shard(rows(1).slice(0, 0), {}))).metadata
    assert (footer.num_rows, footer.num_row_groups) == (0, 0)


def test_an_output_that_a_version_without_the_index_began_goes_on_and_keeps_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "in", str(tmp_path / "out")
    command = ["--input", corpus.write_folder(str(source), 6), "--output", output, "--local", "--limits.rows", "4"]
    with monkeypatch.context() as patch:
        without_index(patch)
        assert pack.main(command) == 0
    before = {entry.name: storage.read(entry.url) for entry in storage.list_files(f"{output}/data")}
    (source / "new.jpg").write_bytes(images.encode(corpus.picture(77), images.Encoding()))
    assert pack.main(command) == 0
    after = {entry.name: storage.read(entry.url) for entry in storage.list_files(f"{output}/data")}
    assert {name: after[name] for name in before} == before
    footers = {name: pq.ParquetFile(io.BytesIO(data)).metadata for name, data in after.items()}
    has_index = {
        name: each.row_group(0).column(0).has_offset_index for name, each in footers.items() if each.num_row_groups
    }
    assert {name for name, found in has_index.items() if found} == after.keys() - before.keys()
    assert not all(has_index.values())
    capsys.readouterr()
    assert verify.main(["--input", output]) == 0
    assert len(corpus.rows(output)) == 7
