"""Corpora of any size with real parts: hard links to one small shard, or to one file, and outputs of real objects."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cluster import host
from pipeline.engine.job import Job
from pipeline.engine.publishing.commit import Sink, publish
from pipeline.engine.records.account import Batch
from pipeline.engine.records.layout import load_segments, load_unit, unit_ids
from pipeline.pack.config import PackConfig
from pipeline.pack.job import pack_jobs
from pipeline.stores.tables.ranges import row_keys
from pipeline.stores.tables.schema import IMAGE_TYPE

SHARD_ROWS, SHARD_GROUPS = 2000, 32
_LINKS = 60_000
"""Names of one file; ext4 allows 65,000."""
_TASK_UNITS = 250


def write_shards(folder: Path, rows: int) -> None:
    """Write shards of SHARD_ROWS tiny rows in SHARD_GROUPS row groups, without keys: rows are named by their shard."""
    images = pa.array([{"bytes": b"%d" % i, "path": None} for i in range(SHARD_ROWS)], IMAGE_TYPE)
    table = pa.table({"image": images})

    def write(path: Path) -> None:
        edges = [SHARD_ROWS * i // SHARD_GROUPS for i in range(SHARD_GROUPS + 1)]
        with pq.ParquetWriter(path, table.schema) as writer:
            for start, stop in itertools.pairwise(edges):
                writer.write_table(table.slice(start, stop - start))

    _link(folder, -(-rows // SHARD_ROWS), ".parquet", write)


def write_files(folder: Path, count: int) -> None:
    """Write a folder of images, in folders of many each; no image can be decoded, and nothing here decodes one."""
    _link(folder, count, ".png", lambda path: path.write_bytes(b"a tiny image"))


def _link(folder: Path, count: int, ending: str, write: Callable[[Path], object]) -> None:
    for start in range(0, count, _LINKS):
        within = folder / f"{start // _LINKS:04d}"
        within.mkdir(parents=True)
        write(within / f"{start:09d}{ending}")
        for number in range(start + 1, min(start + _LINKS, count)):
            os.link(within / f"{start:09d}{ending}", within / f"{number:09d}{ending}")


def job_of(source: str, output: str) -> Job:
    """Return a real job over a corpus: jobs.pack."""
    (job,) = pack_jobs(PackConfig(input=source, output=output))
    return job


def publish_all(source: str, output: str) -> None:
    """Publish data and commit of every planned unit by the engine's own functions: its keys, and no image.

    Nothing is waited for to reach the disk.
    """
    job = job_of(source, output)
    units = [unit for segment in load_segments(job.output) for unit in unit_ids(segment)]
    tasks = [units[i : i + _TASK_UNITS] for i in range(0, len(units), _TASK_UNITS)]
    with ProcessPoolExecutor(host.available_cpus()) as processes:
        for _ in processes.map(partial(_publish, source, output), tasks):
            pass


def _publish(source: str, output: str, units: Iterable[str]) -> None:
    os.fsync = lambda fd: None
    job = job_of(source, output)
    for name in units:
        unit = load_unit(job.output, name)
        keys = [key for piece in unit.ranges for key in row_keys(piece)]
        rows = pa.table({"key": pa.array(keys, pa.string())})
        publish(job.output, Sink(), Batch(unit, rows), job.workloads[0].fingerprint, 0.0)


if __name__ == "__main__":
    publish_all(*sys.argv[1:])
