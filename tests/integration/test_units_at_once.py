"""Several units at once in one actor, on a real local Ray: they share it, and a fatal one costs no other."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster import connection, watchdog
from pipeline.engine.completion.budget import Budget
from pipeline.engine.launch import on_ray_cluster
from pipeline.engine.records.account import Batch
from pipeline.engine.records.limits import Limits
from pipeline.engine.run import IncompleteError, run
from pipeline.translate.config import TranslateConfig
from pipeline.translate.job import translate_job
from pipeline.translation.options import Resources
from tests import corpus

AT_ONCE = 3


@dataclass
class Crowded:
    """Stage that notes how many units are in it, and ends its process with one of them."""

    stage: Callable[[Batch], Batch]
    fatal: str
    notes: Path
    lock: Any = field(default_factory=threading.Lock)
    inside: int = 0

    def __call__(self, batch: Batch) -> Batch:
        with self.lock:
            self.inside += 1
        time.sleep(1.0)
        fatal = self.fatal in batch.rows["key"].to_pylist()
        with (self.notes / ("fatal" if fatal else "other")).open("a") as file:
            file.write(f"{self.inside}\n")
        if fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        made = self.stage(batch)
        with self.lock:
            self.inside -= 1
        return made


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_fatal_unit_among_others_costs_itself_alone(tmp_path: Path) -> None:
    config = TranslateConfig(
        input=corpus.write_folder(str(tmp_path / "in"), 12),
        output=str(tmp_path / "out"),
        bundle=(corpus.write_bundle(str(tmp_path / "bundle")),),
        limits=Limits(rows=1),
        resources=Resources(threads=1),
    )
    job = translate_job(config)
    ranges = job.sources[""].ranges
    fatal = next(r.shard for r in ranges if r.shard not in corpus.BROKEN)
    decode, model, encode = job.workloads[0].stages
    make = model.make
    model = replace(model, make=lambda: Crowded(make(), fatal, tmp_path), at_once=AT_ONCE, apart=None)
    work = replace(job.workloads[0], stages=(decode, model, encode))
    (units,) = job.cut([ranges], 0)
    with connection.connect(), pytest.raises(IncompleteError, match=f"1 of {len(units)} units failed"):
        run([replace(job, workloads=[work])], on_ray_cluster, Budget(share=1.0))
    assert len(job.output.committed()) == len(units) - 1
    inside = [int(line) for line in (tmp_path / "fatal").read_text().split()]
    assert len(inside) == watchdog.MAX_DEATHS
    assert inside[1:] == [1] * (watchdog.MAX_DEATHS - 1)
    assert max(int(line) for line in (tmp_path / "other").read_text().split()) == AT_ONCE
