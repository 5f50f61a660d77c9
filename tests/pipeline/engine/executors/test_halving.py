"""A unit that ends its processes loses the rows at fault, and no others; processes are really ended here."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import images
from pipeline.cluster import watchdog
from pipeline.engine.executors import halving
from pipeline.engine.executors.halving import in_halves
from pipeline.engine.publishing.steps import Stage
from pipeline.engine.records.account import Batch, Made
from pipeline.engine.records.limits import Limits
from pipeline.engine.records.units import Unit, plan_units
from pipeline.pack.config import PackConfig
from pipeline.pack.job import pack_jobs
from pipeline.stores import open_store
from pipeline.translate.config import TranslateConfig
from pipeline.translate.job import translate_job
from pipeline.translation.frames import frames_of
from pipeline.translation.options import Resources
from tests import corpus


@dataclass(frozen=True)
class Harmful:
    """Stage that does harm to its process where it meets a key, and, if it is to, wherever it runs."""

    make: Callable[[], Callable[[Batch], Batch]]
    key: str
    harm: Callable[[], Any]
    once: str = ""
    """Folder that notes the harm, where it is done once alone."""

    def __call__(self) -> Callable[[Batch], Batch]:
        step = self.make()

        def run(batch: Batch) -> Batch:
            keys = batch.rows["key"].to_pylist()
            control = len(keys) == 1 and _is_good(batch)
            done_once = self.once and os.listdir(self.once)
            if (self.key == "*" or (self.key in keys and not control)) and not done_once:
                if self.once:
                    Path(self.once, "done").touch()
                self.harm()
            return step(batch)

        return run


def _is_good(batch: Batch) -> bool:
    """Return True for the good picture, which comes under the key of a row."""
    if batch.pixels is not None:
        return frames_of(batch, images.RGB)[0].shape == (64, 64, 3)
    try:
        return images.decode(batch.rows["image"][0].as_py()["bytes"]).pixels.shape == (64, 128, 3)
    except images.BadImage:
        return False


def end_by(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def hang() -> None:
    time.sleep(3600)


@dataclass(frozen=True)
class Case:
    stages: tuple[Stage, ...]
    unit: Unit
    good: list[str]


@pytest.fixture(scope="module")
def translation(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("halves")
    source = corpus.write_folder(str(folder / "in"), 5, height=40, width=48)
    bundle = corpus.write_bundle(str(folder / "bundle"))
    job = translate_job(
        TranslateConfig(input=source, output=str(folder / "out"), bundle=(bundle,), resources=Resources(threads=1))
    )
    unit = plan_units(open_store(source).ranges, Limits())[0]
    good = sorted({r.shard for r in unit.ranges} - set(corpus.BROKEN))
    return Case(job.workloads[0].stages, unit, good)


def harmed(stage: Stage, key: str, harm: Callable[[], Any], **more: Any) -> Stage:
    assert stage.apart
    make = Harmful(stage.apart.make, key, harm, **more)
    return replace(stage, apart=replace(stage.apart, make=make))


def through(case: Case, which: int, stage: Stage) -> tuple[Batch, Batch]:
    """Return what a unit becomes in three stages, one of which goes in halves, and what it becomes without harm."""
    found: list[Any] = [case.unit, case.unit]
    for i, each in enumerate(case.stages):
        found[0] = in_halves(stage, found[0]) if i == which else _of_one_unit(each.make()(found[0]))
        found[1] = _of_one_unit(each.make()(found[1]))
    return found[0], found[1]


def _of_one_unit(made: Made) -> Batch:
    """Return the only batch of what a stage has made: of several translators, one for each would come."""
    [batch] = [made] if isinstance(made, Batch) else made
    return batch


@pytest.mark.long
@pytest.mark.parametrize(("which", "name"), [(0, "decode"), (1, "translate"), (2, "encode")])
def test_a_fatal_row_costs_a_row_in_each_stage(which: int, name: str, translation: Case) -> None:
    key = translation.good[2]
    stage = harmed(translation.stages[which], key, end_by(signal.SIGSEGV))
    halved, expected = through(translation, which, stage)
    (blamed,) = set(halved.quarantined) - set(expected.quarantined)
    assert blamed[:4] == (key, key, name, "fatal")
    assert blamed.message == "ends its process (SIGSEGV), twice, where a good image passes before and after it"
    assert set(expected.quarantined) <= set(halved.quarantined)
    others = expected.rows.filter(np.array(expected.rows["key"].to_pylist()) != key)
    assert halved.rows.equals(others, check_metadata=True)


@pytest.mark.long
def test_nobody_is_blamed_for_what_happens_once(translation: Case, tmp_path: Path) -> None:
    stage = harmed(translation.stages[0], translation.good[0], end_by(signal.SIGABRT), once=str(tmp_path))
    halved, expected = through(translation, 0, stage)
    assert sorted(halved.quarantined) == sorted(expected.quarantined)
    assert halved.rows.equals(expected.rows)


@pytest.mark.long
def test_a_row_that_hangs_is_found(translation: Case) -> None:
    stage = replace(harmed(translation.stages[0], translation.good[1], hang), stall_s=4.0)
    given = translation.unit
    halved = in_halves(stage, given)
    (blamed,) = [row for row in halved.quarantined if row.reason == "fatal"]
    assert blamed.key == translation.good[1]
    assert blamed.message.startswith("has no end within 4 s, twice")


def test_a_machine_that_ends_whatever_runs_costs_no_image(translation: Case) -> None:
    stage = harmed(translation.stages[0], "*", end_by(signal.SIGSEGV))
    with pytest.raises(watchdog.FatalUnitError, match=r"a good image ends its process \(SIGSEGV\), too"):
        in_halves(stage, translation.unit)


@pytest.mark.long
def test_the_kernel_that_ends_what_takes_memory_costs_no_image(
    translation: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = harmed(translation.stages[0], translation.good[0], end_by(signal.SIGKILL))
    kills = iter(range(100))
    monkeypatch.setattr(halving, "_kernel_kills", lambda: next(kills))
    with pytest.raises(watchdog.FatalUnitError, match=f"{translation.good[0]} alone was killed .* memory ran out"):
        in_halves(stage, translation.unit)


def test_an_ordinary_failure_stays_one(translation: Case) -> None:
    def fail() -> None:
        raise MemoryError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        in_halves(harmed(translation.stages[0], translation.good[0], fail), translation.unit)


@pytest.mark.long
def test_a_fatal_row_is_found_where_images_are_packed(tmp_path: Path) -> None:
    for name in ("a.png", "fatal.png"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(images.encode(corpus.picture(1), images.Encoding(codec="png")))
    (job,) = pack_jobs(PackConfig(input=str(tmp_path / "in"), output=str(tmp_path / "out")))
    (stage,) = job.workloads[0].stages
    unit = plan_units(open_store(str(tmp_path / "in")).ranges, Limits())[0]
    halved, expected = in_halves(harmed(stage, "fatal.png", end_by(signal.SIGILL)), unit), stage.make()(unit)
    why = "ends its process (SIGILL), twice, where a good image passes before and after it"
    assert halved.quarantined == (("fatal.png", "fatal.png", "pack", "fatal", why),)
    assert halved.rows.equals(expected.rows.slice(0, 1), check_metadata=True)


def test_a_watch_is_patient_where_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    wound = list[float]()
    monkeypatch.setattr(watchdog.faulthandler, "dump_traceback_later", lambda s, **_: wound.append(s))
    with watchdog.watched(5.0):
        with watchdog.patient():
            pass
        assert wound == [5.0, watchdog.PATIENT_S, 5.0]
    with watchdog.watched(2 * watchdog.PATIENT_S):
        with watchdog.patient():
            pass
        assert wound[3:] == [2 * watchdog.PATIENT_S]
