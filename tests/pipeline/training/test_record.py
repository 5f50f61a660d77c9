from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from gan_models import GeneratorConfig
from pipeline import storage
from pipeline.errors import UserError
from pipeline.images import Reading
from pipeline.training import record
from tests.pipeline.training.small import pix2pix


def test_the_same_recipe_goes_on_whatever_its_length_workers_and_cadence(any_prefix: str) -> None:
    config = pix2pix("in", any_prefix)
    record.begin(config)
    record.begin(dataclasses.replace(config, steps=99, workers=3, log_every=2, checkpoint_every=9, keep_checkpoints=1))


def test_a_changed_recipe_is_refused_with_each_difference() -> None:
    run = "memory://record/changed"
    record.begin(pix2pix("in", run))
    changed = pix2pix("in", run, seed=5, generator=GeneratorConfig(width=8, depth=5, dropout=True))
    with pytest.raises(UserError, match=r"generator\.width was 4 and is 8 now; seed was 0 and is 5 now"):
        record.check_recipe(changed)


def test_how_files_are_read_is_recorded_where_it_is_not_the_default() -> None:
    run = "memory://record/reading"
    record.begin(pix2pix("in", run))
    recipe = json.loads(storage.read(f"{run}/run.json"))["recipe"]
    assert recipe.keys().isdisjoint({"reading", "extensions"})  # as runs of earlier versions have it
    other = pix2pix("in", run, reading=Reading(icc="to_srgb", gif="first"), extensions="any")
    with pytest.raises(UserError, match=r"extensions was absent and is any .*reading\.gif was absent and is first"):
        record.check_recipe(other)
    with pytest.raises(UserError, match=r"jobs\.pack does that"):
        pix2pix("in", run, reading=Reading(pages="all"))


def test_a_folder_of_something_else_is_refused() -> None:
    storage.replace("memory://record/other/run.json", b"{}")
    with pytest.raises(UserError, match="not one of a training run"):
        record.check_recipe(pix2pix("in", "memory://record/other"))
    storage.replace("memory://record/later/run.json", b'{"format_version": 2, "recipe": {}}')
    with pytest.raises(UserError, match="run format 2"):
        record.check_recipe(pix2pix("in", "memory://record/later"))


def test_a_run_is_finished_where_it_went_as_far_as_is_wanted() -> None:
    config = pix2pix("in", "memory://record/finished")
    assert record.finished(config, 10) is None
    result = record.TrainResult(run=config.output, bundle=f"{config.output}/bundle", steps=10, losses={"g_l1": 2.5})
    record.finish(config, result)
    assert record.finished(config, 10) == dataclasses.replace(result, fresh=False)
    assert record.finished(config, 11) is None


def test_a_result_with_what_is_no_number_is_json_and_is_read_back() -> None:
    config = pix2pix("in", "memory://record/nan")
    history = ({"step": 5, "kid": math.nan}, {"step": 10, "kid": 0.5})
    record.finish(config, record.TrainResult(run=config.output, bundle="", steps=10, validation=history))
    json.loads(storage.read(f"{config.output}/result.json"), parse_constant=pytest.fail)
    found = record.finished(config, 10)
    assert found is not None
    assert math.isnan(found.validation[0]["kid"])
    assert found.validation[1] == history[1]


def test_options_that_were_once_part_of_the_recipe_do_not_keep_a_run_from_going_on(tmp_path: Path) -> None:
    config = pix2pix("in", str(tmp_path))
    record.begin(config)
    document = json.loads((tmp_path / "run.json").read_text())
    assert not {"compile", "channels_last"} & document["recipe"].keys()
    document["recipe"] |= {"compile": False, "channels_last": True}
    (tmp_path / "run.json").write_text(json.dumps(document))
    record.check_recipe(config)
