from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from gan_models import translation_mode
from gan_models.pixels import from_pixels, to_pixels
from pipeline.errors import UserError
from pipeline.scores.features import FeatureSet, kid, load_features
from pipeline.training.config.validation import Validation
from pipeline.training.model.replica import build_objective
from pipeline.training.validation.validator import Validator, best_step, check_validation, choose_metric, stopped_early
from tests.corpus import picture
from tests.pipeline.training import small


def history(*values: float, name: str = "l1") -> list[dict[str, float]]:
    return [{"step": 100 * (i + 1), name: value} for i, value in enumerate(values)]


def test_the_best_step_is_the_lowest_error_and_the_earlier_of_two() -> None:
    assert best_step(history(0.3, 0.1, 0.2, 0.1)) == 200
    assert best_step(history(0.3, 0.5, 0.2, name="ssim"), "ssim") == 200
    assert best_step(history(0.3, 0.1, 0.2), among={100, 300}) == 300
    assert best_step(history(math.nan, 0.4)) == 200
    assert best_step([]) is None
    assert best_step(history(0.3), "ssim") is None


def test_kid_means_that_of_whatever_features_there_are() -> None:
    entry = {"step": 1, "l1": 0.1, "kid_lite_back": 0.1, "kid_lite": 0.2, "cycle_l1": 0.3}
    assert choose_metric(entry) == "kid_lite"
    assert choose_metric(entry, "kid") == "kid_lite"
    assert choose_metric(entry, "kid_back") == "kid_lite_back"
    assert choose_metric({"step": 1, "l1": 0.1, "ssim": 0.9}) == "l1"
    assert choose_metric({"step": 1, "cycle_l1": 0.1, "cycle_l1_back": 0.9}) == "cycle_l1"
    assert choose_metric({"step": 1}) is None


def test_an_entry_without_the_metric_is_left_out() -> None:
    """This happens when a run is resumed on a machine that lacks the features."""
    mixed = [{"step": 1, "l1": 0.3, "kid_lite": 0.2}, {"step": 2, "l1": 0.1}, {"step": 3, "l1": 0.2, "kid_lite": 0.1}]
    assert best_step(mixed) == 3


def test_training_stops_after_so_many_validations_without_a_better_one() -> None:
    assert stopped_early(history(0.3, 0.2, 0.25, 0.21), "l1", 2) == "no better l1 in 2 validations than 0.2 at step 200"
    assert stopped_early(history(0.3, 0.2, 0.25), "l1", 2) == ""
    assert stopped_early(history(0.3, 0.2, 0.25, 0.1), "l1", 2) == ""
    assert stopped_early(history(0.3, 0.2, 0.25, 0.21), "l1", None) == ""
    assert stopped_early([], "l1", 1) == ""


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UserError, match="patience is set"):
        Validation(patience=3)
    with pytest.raises(UserError, match="known are kid"):
        Validation(metric="fid")
    store = small.write_pairs("memory://validation/refused", 2)
    config = small.pix2pix(store, "memory://none", validation=Validation(input=store))
    with pytest.raises(UserError, match="memory://"):
        check_validation(config)


def test_pairs_are_measured_as_by_hand() -> None:
    """Batch norm and dropout are on: each image is translated by itself, and nothing is dropped."""
    store = small.write_pairs("memory://validation/pairs", 5, size=32)
    config = small.pix2pix(store, "memory://none", validation=Validation(input=store, images=3))
    objective = build_objective(replace(config, seed=1))
    found = Validator(config, torch.device("cpu")).measure(objective.networks)
    differences = []
    fakes = []
    for i in range(3):
        a = picture(i, 32, 32)
        pixels = torch.from_numpy(a.copy()).permute(2, 0, 1)[None]
        with torch.inference_mode():
            output = to_pixels(translation_mode(objective.networks["g"])(from_pixels(pixels)))
        fakes.append(output[0].permute(1, 2, 0).numpy())
        differences.append(np.abs(fakes[-1].astype(float) - (255 - a)).mean() / 255)
    assert found["l1"] == pytest.approx(np.mean(differences), abs=1e-4)
    assert -1 <= found["ssim"] < 0.5
    features = load_features()
    sets = [FeatureSet(features, torch.device("cpu")) for _ in range(2)]
    for i, fake in enumerate(fakes):
        sets[0].add(255 - picture(i, 32, 32))
        sets[1].add(fake)
    assert found["kid_efficientnet_lite0"] == pytest.approx(kid(sets[0].values(), sets[1].values()), rel=1e-2)


def test_a_perfect_generator_has_no_error() -> None:
    """The generator is the identity, on pairs with equal sides."""
    pictures = [picture(i, 32, 32) for i in range(3)]
    store = small.write_store("memory://validation/equal", image_a=pictures, image_b=pictures)
    identity = torch.nn.Identity()
    pairs = small.pix2pix(store, "memory://none", validation=Validation(input=store))
    found = Validator(pairs, torch.device("cpu")).measure({"g": identity})
    assert found["l1"] < 1 / 255  # conversion there and back truncates, as published results do
    assert found["ssim"] == pytest.approx(1, abs=1e-3)
    assert found["kid_efficientnet_lite0"] < 0.01
    sets = small.cyclegan(store, "memory://none", validation=Validation(input=store))
    found = Validator(sets, torch.device("cpu")).measure({"g_AB": identity, "g_BA": identity})
    assert max(found["cycle_l1"], found["cycle_l1_back"]) < 2 / 255
    assert found["kid_efficientnet_lite0"] == found["kid_efficientnet_lite0_back"] < 0.01
