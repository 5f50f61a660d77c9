from __future__ import annotations

from pathlib import Path

import pytest

from gan_models import CycleGANConfig, DiscriminatorConfig, GeneratorConfig, Pix2PixConfig
from pipeline.config import UserError, parse
from pipeline.training.config.schedule import LearningRateSchedule
from pipeline.training.config.train import TrainConfig

RECIPES = Path(__file__).parents[4] / "jobs" / "recipes"
INSTANCE = {"discriminator": DiscriminatorConfig(in_channels=6)}
PLACES = ["--input", "in", "--output", "out"]


def parsed(*argv: str) -> TrainConfig:
    return parse(TrainConfig, [*PLACES, *argv], prog="train", description="")


def test_the_default_is_the_recipe_of_pix2pix() -> None:
    config = parsed()
    assert config == parsed("--config", str(RECIPES / "pix2pix.yaml"))
    assert config.model() == Pix2PixConfig()
    assert (config.learning_rate, config.betas, config.global_batch) == (2e-4, (0.5, 0.999), 1)
    assert (config.load_size, config.crop_size, config.flip) == (286, 256, True)
    assert config.total_steps(steps_per_epoch=400) == 80_000


def test_the_other_recipe_is_that_of_cyclegan() -> None:
    config = parsed("--config", str(RECIPES / "cyclegan.yaml"))
    assert config.model() == CycleGANConfig()
    assert (config.learning_rate, config.betas, config.global_batch) == (2e-4, (0.5, 0.999), 1)
    assert (config.load_size, config.crop_size, config.flip) == (286, 256, True)
    assert (config.epochs, config.decay_epochs) == (100, 100)


def test_flags_reach_the_networks() -> None:
    config = parsed("--generator.width", "32", "--generator.depth", "7", "--crop_size", "128", "--no_flip")
    assert config.generator == GeneratorConfig(width=32, depth=7, dropout=True)
    assert not config.flip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workers": 3, "global_batch": 2}, "workers is 3 and global_batch 2.*lower workers to 2"),
        ({"load_size": 200}, "load_size is 200 and crop_size 256.*raise load_size to 256"),
        ({"crop_size": 200}, "crop_size is 200: a unet of depth 8 needs a multiple of 256; set it to 256"),
        (
            {"crop_size": 16, "generator": GeneratorConfig(depth=4)},
            "crop_size is 16: this discriminator needs 24 pixels at least; raise crop_size or lower",
        ),
        (
            {"crop_size": 4, "generator": GeneratorConfig(kind="resnet", depth=1)},
            "crop_size is 4: this generator needs 8 pixels at least; raise crop_size$",
        ),
        ({"lambda_a": 5.0}, "lambda_a is 5.0: pix2pix has no use for it"),
        ({"objective": "cyclegan", "lambda_l1": 5.0}, "lambda_l1 is 5.0: cyclegan has no use for it"),
        ({"objective": "cyclegan"}, "discriminator.in_channels is 6.*set it to 3"),
        ({"discriminator": DiscriminatorConfig()}, "discriminator.in_channels is 3.*set it to 6"),
        ({"global_batch": 0}, "global_batch is 0: it must be at least 1"),
        ({"steps": 0}, "steps is 0"),
        ({"min_workers": 0}, "min_workers is 0: it must be at least 1"),
        ({"min_workers": 2}, "min_workers is 2 and workers 1: raise workers"),
        ({"epochs": 0, "decay_epochs": 0}, "nothing to train"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0: it must be more than 0"),
        ({"betas": (0.5, 1.0)}, "betas\\[1\\] is 1.0: it must be at least 0 and less than 1"),
        ({"seed": -1}, "seed is -1"),
        ({"trunk": "winograd"}, "trunk is winograd and generator.kind unet.*set trunk to direct"),
        ({"ema": 1.0}, "ema is 1.0: it must be at least 0 and less than 1"),
        ({"accumulate": 0}, "accumulate is 0: it must be at least 1"),
        ({"accumulate": 3, "global_batch": 4, "workers": 2}, "a worker has 2 of the 4 samples.*lower accumulate to 2"),
        (
            {"precision": "fp16", "gan_loss": "wgangp", **INSTANCE},
            "precision is fp16 and gan_loss wgangp.*set precision",
        ),
    ],
)
def test_impossible_combinations_are_refused_naming_value_rule_and_fix(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TrainConfig(input="in", output="out", **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "step", "gamma": 1.0}, "schedule.gamma is 1.0: it must be more than 0 and less than 1"),
        ({"kind": "step", "step_epochs": 0}, "schedule.step_epochs is 0: it must be at least 1"),
        ({"kind": "plateau", "threshold": 1.0}, "schedule.threshold is 1.0"),
        ({"kind": "plateau", "patience": -1}, "schedule.patience is -1"),
        ({"warmup_steps": -1}, "schedule.warmup_steps is -1"),
        ({"gamma": 0.5}, "schedule.gamma is 0.5: a linear schedule has no such thing; .* set schedule.kind to step"),
        ({"kind": "step", "patience": 2}, "schedule.patience is 2: a step schedule .* set schedule.kind to plateau"),
        ({"reference_batch": 4}, "schedule.reference_batch is 4 without a rule.*set schedule.batch_rule to sqrt"),
    ],
)
def test_impossible_schedules_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        LearningRateSchedule(**changes)


def test_schedule_and_frozen_parts_are_flags() -> None:
    config = parsed("--schedule.kind", "cosine", "--schedule.by", "steps", "--freeze", "d", "g.model.model.0")
    assert config.schedule == LearningRateSchedule(kind="cosine", by="steps")
    assert config.freeze == ("d", "g.model.model.0")


def test_the_defaults_leave_out_what_the_articles_do_not_have() -> None:
    config = parsed()
    assert (config.schedule, config.ema, config.accumulate) == (LearningRateSchedule(), 0, 1)
    assert (config.start_from, config.freeze) == ("", ())


@pytest.mark.parametrize("recipe", ["pix2pix", "cyclegan"])
def test_the_fast_recipe_differs_from_the_published_one_in_its_arithmetic_alone(recipe: str) -> None:
    fast, published = (parsed("--config", str(RECIPES / f"{name}.yaml")) for name in (f"{recipe}_fast", recipe))
    changed = {name for name, value in fast.recipe().items() if value != published.recipe()[name]}
    assert changed == {"ema"}
    assert (fast.epochs, fast.decay_epochs) == (published.epochs, published.decay_epochs)


def test_where_a_run_begins_and_how_it_is_cut_are_no_part_of_the_recipe() -> None:
    base = ["--global_batch", "2", "--ema", "0.9"]
    same = parsed(*base, "--start_from", "somewhere", "--accumulate", "2")
    assert same.recipe() == parsed(*base).recipe()
    assert same.recipe() != parsed(*base, "--schedule.warmup_steps", "5").recipe()


def test_on_the_command_line_they_are_the_users_errors() -> None:
    with pytest.raises(UserError, match="lower workers to 1"):
        parsed("--workers", "2")


def test_streaming_has_an_order_of_its_own_and_so_is_part_of_the_recipe() -> None:
    streamed = parsed("--streaming", "stream", "--shuffle_buffer", "9").recipe()
    assert (streamed["streaming"], streamed["shuffle_buffer"]) == ("stream", 9)
    assert parsed("--streaming", "memory", "--shuffle_buffer", "9").recipe() == parsed().recipe()
    assert "streaming" not in parsed().recipe()


def test_steps_cap_the_length_and_are_no_part_of_the_recipe() -> None:
    short = parsed("--steps", "10", "--workers", "1", "--log_every", "5", "--checkpoint_every", "3")
    assert short.total_steps(steps_per_epoch=400) == 10
    assert short.recipe() == parsed().recipe()
    assert short.recipe() != parsed("--seed", "1").recipe()
