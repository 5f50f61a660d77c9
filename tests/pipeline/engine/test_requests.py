"""Requests of a run to its source: what is planned is not read again, and what is complete is hardly looked at."""

from __future__ import annotations

import _thread
import gc
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import images, storage
from pipeline.engine.completion.budget import Budget
from pipeline.engine.executors import local
from pipeline.engine.executors.progress import Meter
from pipeline.engine.publishing.steps import Receipt, Task, Workload
from pipeline.engine.records.layout import Output, load_segments
from pipeline.engine.run import Outcome, run
from pipeline.errors import UserError
from pipeline.pack.config import PackConfig
from pipeline.pack.job import pack_jobs
from pipeline.storage.entries import Entry
from pipeline.stores import open_store
from pipeline.stores.forms import survey
from pipeline.stores.tables.ranges import Range
from pipeline.stores.tables.schema import IMAGE_TYPE
from tests import corpus

PICTURE = images.encode(corpus.picture(1), images.Encoding(codec="png"))


def write_shard(path: Path, rows: int = 2, **columns: Any) -> None:
    pictures = pa.array([{"bytes": PICTURE, "path": None}] * rows, IMAGE_TYPE)
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"image": pictures, **columns}), path)


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    for number in range(5):
        write_shard(tmp_path / f"in/{number}.parquet")
    return Ground(tmp_path, monkeypatch)


class Stopped(Exception):  # noqa: N818
    """End of a run at its first unit."""


def stop(workloads: Sequence[Workload], tasks: Sequence[Task], meter: Meter) -> Iterator[Receipt]:
    raise Stopped


class Ground:
    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.source, self.output = root / "in", Output(str(root / "out"))
        self.footers, self.opened = list[str](), set[str]()
        read_footer, open_read, stat_file = survey.read_footer, storage.open_read, storage.stat_file

        def counted_footer(entry: Entry) -> pq.FileMetaData:
            self.footers.append(entry.name)
            return read_footer(entry)

        def opening(look: Any) -> Any:
            def opened(url: str, *known: Any) -> Any:
                if url.startswith(str(self.source)):
                    self.opened.add(url.rpartition("/")[2])
                return look(url, *known)

            return opened

        monkeypatch.setattr(survey, "read_footer", counted_footer)
        monkeypatch.setattr(storage, "open_read", opening(open_read))
        monkeypatch.setattr(storage, "stat_file", opening(stat_file))

    def run(self, execute: Any = local.execute) -> Outcome:
        self.footers.clear()
        self.opened.clear()
        (outcome,) = run(pack_jobs(PackConfig(input=str(self.source), output=self.output.url)), execute, Budget())
        return outcome


def test_a_run_reads_the_footers_that_are_in_no_plan_yet(ground: Ground) -> None:
    with pytest.raises(Stopped):
        ground.run(stop)
    assert sorted(ground.footers) == [f"{number}.parquet" for number in range(5)]
    with pytest.raises(Stopped):
        ground.run(stop)
    assert ground.footers == ["0.parquet"]
    assert ground.run().totals.ok == 10
    assert ground.footers == ["0.parquet"]
    write_shard(ground.source / "5.parquet")
    assert ground.run().totals.ok == 12
    assert ground.footers == ["0.parquet", "5.parquet"]


def test_a_complete_output_takes_a_listing_and_one_footer(ground: Ground) -> None:
    assert ground.run().fresh
    assert not ground.run().fresh
    assert ground.footers == ["0.parquet"]
    assert ground.opened == {"0.parquet"}


def test_shards_without_rows_are_said_each_time_and_planned_never(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    write_shard(ground.source / "0.parquet", rows=0)
    write_shard(ground.source / "9.parquet", rows=0)
    for fresh in (True, False):
        caplog.clear()
        outcome = ground.run()
        assert (outcome.fresh, outcome.totals.ok) == (fresh, 8)
        assert "2 shards without rows, such as 0.parquet: no input" in caplog.text
    (segment,) = load_segments(ground.output)
    (passed_over,) = segment.sources[""].passed_over
    assert (passed_over.count, passed_over.example) == (2, "0.parquet")
    assert set(ground.footers) == {"0.parquet", "1.parquet", "9.parquet"}  # one is read to see that there are rows


def test_a_new_shard_with_other_columns_is_refused_before_anything_is_planned(ground: Ground) -> None:
    ground.run()
    write_shard(ground.source / "5.parquet")
    write_shard(ground.source / "6.parquet", label=["a", "b"])
    with pytest.raises(UserError, match=r"6\.parquet: columns differ from .*0\.parquet: label: string unexpected"):
        ground.run()
    assert len(load_segments(ground.output)) == 1


def test_no_object_is_kept_for_a_shard_that_is_planned(ground: Ground) -> None:
    for number in range(5, 40):
        write_shard(ground.source / f"{number}.parquet")
    before = looked_at()
    (job,) = pack_jobs(PackConfig(input=str(ground.source), output=ground.output.url))
    with pytest.raises(Stopped):
        run([job], stop, Budget())
    assert len(job.sources[""].shards) == 40
    assert looked_at() - before < 5


def looked_at() -> int:
    """Return the number of ranges, entries and footers that are held as objects."""
    gc.collect()
    return sum(type(each) in (Range, Entry, pq.FileMetaData) for each in gc.get_objects())


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_the_reading_of_footers_at_once(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5, 300):
        (ground.source / f"{number}.parquet").hardlink_to(ground.source / "0.parquet")
    store, read_footer = open_store(str(ground.source)), survey.read_footer

    def slow(entry: Entry) -> pq.FileMetaData:
        time.sleep(0.5)
        return read_footer(entry)

    monkeypatch.setattr(survey, "read_footer", slow)
    threading.Timer(0.2, _thread.interrupt_main).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        store.rows  # noqa: B018
    assert time.monotonic() - began < 2.5
