"""Measure the engine by itself: how busy it keeps actors that take a fixed time for a unit."""

from __future__ import annotations

import dataclasses
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gan_models import GeneratorConfig
from pipeline.benchmark.basis import inputs
from pipeline.benchmark.basis.config import EngineBenchmarkConfig
from pipeline.benchmark.basis.limits import machine
from pipeline.cluster import connection, host
from pipeline.engine.completion.budget import Budget
from pipeline.engine.launch import on_ray_cluster
from pipeline.engine.records.account import Batch
from pipeline.engine.records.limits import Limits
from pipeline.engine.run import run
from pipeline.translate.config import TranslateConfig
from pipeline.translate.job import translate_job
from pipeline.translation.options import Resources

log = logging.getLogger("transdomain")

_SIZE = 32


@dataclass(frozen=True)
class MeasuredEngine:
    """Shares of the time that actors compute, one for each number of actors."""

    config: EngineBenchmarkConfig
    machine: Mapping[str, Any]
    busy: Mapping[int, float]
    goal: float = 0.97


def measure(config: EngineBenchmarkConfig) -> MeasuredEngine:
    """Run pools of the wanted sizes one after the other, in one Ray. Needs no device: a unit is a wait."""
    if config.quick:
        config = dataclasses.replace(config, actors=(1, 2), unit_s=0.2, units_each=2)
    about, busy = machine("cpu"), dict[int, float]()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch, connection.connect():
        inputs.write_bundle(f"{scratch}/bundle", GeneratorConfig(kind="resnet", width=4, depth=1), _SIZE)
        for actors in config.actors:
            busy[actors] = _busy(config, actors, scratch)
            log.info("%d actor(s): %.3f of the time", actors, busy[actors])
    return MeasuredEngine(config, about, busy)


def _busy(config: EngineBenchmarkConfig, actors: int, scratch: str) -> float:
    """Return the share of the time that actors compute, each from its first unit's begin to its last one's end."""
    name = uuid.uuid4().hex
    folder, spans = f"{scratch}/{name}-in", Path(scratch, f"{name}-spans")
    inputs.write_pictures(folder, actors * config.units_each, _SIZE)
    spans.mkdir()
    job = translate_job(
        TranslateConfig(
            input=folder,
            output=f"{scratch}/{name}-out",
            bundle=(f"{scratch}/bundle",),
            device="cpu",
            precision="fp32",
            trunk="direct",
            resources=Resources(
                actors=actors, actor_cpus=host.available_cpus() / (2 * actors), decode_cpus=0.5, encode_cpus=0.5
            ),
            limits=Limits(rows=1),
        )
    )
    (work,) = job.workloads
    decode, model, encode = work.stages
    waiting = replace(model, make=lambda: _Waiting(config.unit_s, spans))
    run([replace(job, workloads=[replace(work, stages=(decode, waiting, encode))])], on_ray_cluster, Budget())
    of_actors: dict[str, list[tuple[float, float]]] = {}
    for path in spans.iterdir():
        actor, began, ended = path.read_text().split()
        of_actors.setdefault(actor, []).append((float(began), float(ended)))
    computed = sum(ended - began for each in of_actors.values() for began, ended in each)
    there = sum(max(each, key=lambda span: span[1])[1] - min(each)[0] for each in of_actors.values())
    return computed / there


@dataclass(frozen=True)
class _Waiting:
    """Stage that takes a fixed time for a unit, and notes when."""

    unit_s: float
    spans: Path

    def __call__(self, batch: Batch) -> Batch:
        began = time.time()
        time.sleep(self.unit_s)
        (self.spans / batch.unit.id).write_text(f"{os.getpid()} {began} {time.time()}")
        return batch
