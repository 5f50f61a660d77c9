"""Decisions before training: whether a set is held in memory or streamed, and that a run continues as it began."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gan_models import load_bundle
from pipeline import storage
from pipeline.errors import UserError
from pipeline.training import record
from pipeline.training.checkpoints import checkpoint
from pipeline.training.config.train import TrainConfig
from pipeline.training.config.validation import Validation
from pipeline.training.monitor import watch
from pipeline.training.run import Plan, conclude, prepare
from tests.pipeline.training import small

SET_GB = 2 * 4 * small.SIZE**2 * 3 / 1e9


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return small.pix2pix(small.write_pairs(str(tmp_path / "store"), 4), str(tmp_path / "run"))


def planned(config: TrainConfig, **changes: Any) -> Plan:
    """Return the plan of the same run, with changes."""
    return prepare(replace(config, **changes))


def test_a_set_that_does_not_fit_is_streamed_and_one_that_fits_is_not(config: TrainConfig) -> None:
    fits, too_large = planned(config, memory_gb=SET_GB), planned(config, memory_gb=0.99 * SET_GB)
    assert (fits.config.streaming, too_large.config.streaming) == ("memory", "stream")
    assert "decoded on each node" in str(fits)
    assert "streamed" in str(too_large)


def test_memory_that_does_not_suffice_is_refused_where_it_is_asked_for(config: TrainConfig) -> None:
    with pytest.raises(
        UserError, match=r"take 0\.0 GB on each node.*raise memory_gb, lower load_size or leave streaming at auto"
    ):
        planned(config, memory_gb=0.5 * SET_GB, streaming="memory")


def test_a_run_goes_on_as_it_began_whatever_memory_there_is(config: TrainConfig) -> None:
    record.begin(planned(config, memory_gb=0.5 * SET_GB).config)
    assert planned(config, memory_gb=100.0).config.streaming == "stream"
    with pytest.raises(UserError, match="streaming was stream and is absent now"):
        planned(config, streaming="memory")
    with pytest.raises(UserError, match="shuffle_buffer was 128 and is 7 now"):
        planned(config, shuffle_buffer=7)


def test_a_run_that_began_in_memory_is_not_streamed_later(config: TrainConfig) -> None:
    record.begin(planned(config).config)
    assert planned(config, shuffle_buffer=7).config.streaming == "memory"
    with pytest.raises(UserError, match="begin another run, which is streamed"):
        planned(config, memory_gb=0.5 * SET_GB)


def test_a_bundle_of_the_best_step_is_never_that_of_an_earlier_end(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is extended twice: first an earlier step is best, then its last one."""
    scores = iter([0.5, 0.4, 0.6, 0.3, 0.7, 0.2])
    monkeypatch.setattr(watch.Validator, "measure", lambda self, networks: {"l1": next(scores)})
    config = replace(config, keep_checkpoints=1, validation=Validation(input=config.input, every=2))
    best: list[int | None] = []
    for steps in (6, 10, 12):
        plan = planned(config, steps=steps)
        record.begin(plan.config)
        small.train_here(plan.config)
        result = conclude(plan)
        best.append(load_bundle(result.best_bundle).provenance["step"] if result.best_bundle else None)
        assert record.finished(plan.config, steps) == replace(result, fresh=False)
    assert best == [4, 8, None]
    assert not storage.exists(f"{config.output}/bundle_best/config.json")
    assert load_bundle(f"{config.output}/bundle").provenance["step"] == 12


def test_a_damaged_best_checkpoint_leaves_no_bundle_of_an_earlier_one(
    config: TrainConfig, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.5, 0.4, 0.6, 0.3, 0.7])
    monkeypatch.setattr(watch.Validator, "measure", lambda self, networks: {"l1": next(scores)})
    config = replace(config, validation=Validation(input=config.input, every=2))
    for steps in (6, 10):
        plan = planned(config, steps=steps)
        record.begin(plan.config)
        small.train_here(plan.config)
        if steps == 10:
            part = checkpoint.read_record(config.output, 8).parts["networks"][0]
            storage.replace(f"{config.output}/checkpoints/000000008/{part}", b"damaged")
        result = conclude(plan)
    assert result.best_bundle == ""
    assert [line for line in said if line.startswith("no bundle of the best step")]
    assert not storage.list_files(f"{config.output}/bundle_best")


def test_the_best_step_has_a_bundle_of_its_own(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.5, 0.1, 0.2])
    monkeypatch.setattr(watch.Validator, "measure", lambda self, networks: {"l1": next(scores)})
    config = replace(config, steps=6, keep_checkpoints=1, validation=Validation(input=config.input, every=2))
    plan = prepare(config)
    record.begin(plan.config)
    small.train_here(plan.config)

    result = conclude(plan)

    assert checkpoint.steps(plan.config.output) == [4, 6]
    for url, step in ((result.bundle, 6), (result.best_bundle, 4)):
        bundle, networks = (
            load_bundle(url),
            checkpoint.read_part(config.output, checkpoint.read_record(config.output, step), "networks"),
        )
        small.assert_same_bits(bundle.generator().state_dict(), networks["g"])
        assert bundle.provenance["step"] == step
    assert record.finished(plan.config, 6) == replace(result, fresh=False)
