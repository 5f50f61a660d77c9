"""Rows that end or hang their process, found in a child process; and that nothing else of a unit changes by it."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.cloudpickle

from pipeline.config.translate import Resources, TranslateConfig
from pipeline.engine import fatal
from pipeline.engine.account import Batch, Rejected
from pipeline.engine.plan import Range, Unit, rows_between
from pipeline.stores import open_store, parquet, read_rows
from pipeline.translation.job import translate_job
from tests import corpus


@dataclass(frozen=True)
class Poisoned:
    """A stage that gives back what it read, and does to its process what is said for some keys."""

    harm: dict[str, Callable[[], Any]]

    def __call__(self, value: Unit | Batch) -> Batch:
        batch = value if isinstance(value, Batch) else Batch(value, read_rows(value.ranges, []))
        for key in batch.rows["key"].to_pylist():
            self.harm.get(key, int)()
            fatal.got_on()
        return batch


def die() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang() -> None:
    time.sleep(3600)


def fail() -> None:
    raise ValueError("no such thing")


def packed(harm: dict[str, Callable[[], Any]]) -> bytes:
    return pickle.dumps(partial(Poisoned, harm))


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    corpus.write_folder(str(tmp_path), 3)
    return Unit("000000-000000", tuple(open_store(str(tmp_path)).ranges))


def keys(unit: Unit) -> list[str]:
    return [piece.shard for piece in unit.ranges]


def test_rows_that_end_or_hang_their_process_are_set_aside_alone(unit: Unit) -> None:
    dead, hung = keys(unit)[1], keys(unit)[4]
    made = fatal.row_by_row(packed({dead: die, hung: hang}), unit, "decode", 3.0)
    assert made.rows["key"].to_pylist() == [key for key in keys(unit) if key not in (dead, hung)]
    assert made.rejected == (
        Rejected(dead, dead, "decode", "fatal", "ends its process: SIGSEGV"),
        Rejected(hung, hung, "decode", "fatal", "ends its process: no progress for 3 s"),
    )
    assert (made.unit, made.skipped) == (unit, 0)


def test_a_batch_keeps_what_was_known_of_it(unit: Unit) -> None:
    rows = read_rows(unit.ranges, [])
    before = Rejected("x", "x", "decode", "empty", "…")
    made = fatal.row_by_row(packed({keys(unit)[0]: die}), Batch(unit, rows, (before,), 2), "encode", 60.0)
    assert made.rows.equals(rows.slice(1).combine_chunks())
    key = keys(unit)[0]
    assert made.rejected == (before, Rejected(key, key, "encode", "fatal", "ends its process: SIGSEGV"))
    assert made.skipped == 2


def test_a_unit_of_which_nothing_is_left_has_its_columns(unit: Unit) -> None:
    one = unit._replace(ranges=unit.ranges[:1])
    made = fatal.row_by_row(packed({keys(one)[0]: die}), one, "decode", 60.0)
    assert len(made.rows) == 0
    assert made.rows.schema == read_rows(unit.ranges, []).schema


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (fail, "ValueError: no such thing"),
        (die, "ends its process .SIGSEGV. before the first row"),
    ],
)
def test_a_stage_that_cannot_be_made_fails_the_unit_and_no_row(unit: Unit, make: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        fatal.row_by_row(pickle.dumps(make), unit, "translate", 60.0)


def test_a_stage_that_raises_fails_the_unit(unit: Unit) -> None:
    with pytest.raises(RuntimeError, match="ValueError: no such thing"):
        fatal.row_by_row(packed({keys(unit)[3]: fail}), unit, "decode", 60.0)


def test_the_shard_of_a_healthy_unit_is_the_same_either_way(tmp_path: Path) -> None:
    """A unit whose nodes were lost three times goes this way, too."""
    source, bundle = corpus.write_folder(str(tmp_path / "in"), 9), corpus.write_bundle(str(tmp_path / "bundle"))
    config = TranslateConfig(input=source, output=str(tmp_path / "out"), bundle=bundle, resources=Resources(threads=1))
    job = translate_job(config)
    (unit,) = job.cut(job.ranges, 0)
    made: Any = unit
    alone: Any = unit
    for stage in job.works[0].stages:
        made = stage.make()(made)
        alone = fatal.row_by_row(ray.cloudpickle.dumps(stage.make), alone, stage.name, stage.stall_s)
        assert alone.rows.schema == made.rows.schema
        assert sorted(alone.rejected) == sorted(made.rejected)
    assert made.rejected
    assert parquet.encode_shard(alone.rows, {}) == parquet.encode_shard(made.rows, {})


def test_ranges_between_rows() -> None:
    ranges = [Range("a", "u/a", "v", 10, 13, 30), Range("b", "u/b", "w", 0, 2, 20)]
    wanted = ((0, 5), (1, 4), (3, 4), (0, 0))
    assert [[(r.shard, r.start, r.stop) for r in rows_between(ranges, *rows)] for rows in wanted] == [
        [("a", 10, 13), ("b", 0, 2)], [("a", 11, 13), ("b", 0, 1)], [("b", 0, 1)], [("a", 10, 10)],
    ]  # fmt: skip


def test_a_row_that_takes_long_is_no_hang() -> None:
    with fatal.watched(2.0):
        for _ in range(4):
            time.sleep(1.0)
            fatal.got_on()


def test_rows_of_a_shard_without_keys_of_their_own(tmp_path: Path) -> None:
    picture = {"bytes": b"a picture", "path": None}
    pq.write_table(pa.table({"image": [picture] * 4}), tmp_path / "x.parquet")
    unit = Unit("000000-000000", tuple(open_store(str(tmp_path)).ranges))
    made = fatal.row_by_row(packed({"x.parquet#000000002": die}), unit, "pack", 60.0)
    assert made.rows["key"].to_pylist() == [f"x.parquet#00000000{i}" for i in (0, 1, 3)]
    assert [row.key for row in made.rejected] == ["x.parquet#000000002"]
