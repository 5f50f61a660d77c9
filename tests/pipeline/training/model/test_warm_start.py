"""Runs that begin with the networks of a bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from gan_models import DiscriminatorConfig, GeneratorConfig
from pipeline import storage
from pipeline.errors import UserError
from pipeline.training import run
from pipeline.training.checkpoints import checkpoint
from pipeline.training.checkpoints.bundle import export_bundle
from pipeline.training.config.train import TrainConfig
from pipeline.training.data import loader
from pipeline.training.model import warm_start
from pipeline.training.model.replica import build_objective
from tests.pipeline.training import small


@pytest.fixture(scope="module")
def pairs() -> str:
    return small.write_pairs("memory://warm/pairs", 4)


@pytest.fixture(scope="module")
def unpaired() -> str:
    return small.write_unpaired("memory://warm/unpaired", 4, 3)


def trained(config: TrainConfig) -> tuple[str, dict[str, dict[str, Tensor]]]:
    """Train a run; return its bundle and the final weights of its networks."""
    small.train_here(config)
    found = checkpoint.newest(config.output)
    assert found is not None
    return export_bundle(config, loader.find_sources(config), *found), dict(found[1]["networks"])


def test_a_run_begins_with_the_trained_weights_not_their_average(pairs: str) -> None:
    bundle, weights = trained(small.pix2pix(pairs, "memory://warm/first", steps=2, ema=0.5))
    start = warm_start.read(small.pix2pix(pairs, "out", start_from=bundle))
    assert list(start.networks) == ["g", "d"]
    for name, state in start.networks.items():
        small.assert_same_bits(state, weights[name])


def test_it_goes_on_from_there_and_its_average_begins_there(pairs: str) -> None:
    bundle, weights = trained(small.pix2pix(pairs, "memory://warm/before", steps=2, seed=1))
    config = small.pix2pix(pairs, "memory://warm/after", steps=1, learning_rate=1e-12, ema=0.9, start_from=bundle)
    _, after = trained(config)
    record = checkpoint.read_record(config.output, 1)
    averages = checkpoint.read_part(config.output, record, "ema")
    key = "model.model.0.weight"
    for found in (after["g"][key], averages["g"][key]):
        assert (found - weights["g"][key]).abs().max() < 1e-9
    assert record.about["start"] == warm_start.read(config).identity


def test_a_resumed_run_needs_no_bundle_any_more(pairs: str) -> None:
    bundle, _ = trained(small.pix2pix(pairs, "memory://warm/source", steps=1, seed=1))
    through = small.pix2pix(pairs, "memory://warm/through", steps=4, start_from=bundle)
    small.train_here(through)
    resumed = dataclasses.replace(through, output="memory://warm/resumed", start_from="memory://warm/gone")
    small.copy_checkpoint(through.output, 2, resumed.output)
    small.train_here(resumed)
    small.assert_same_bits(small.final_state(resumed.output), small.final_state(through.output))
    record = checkpoint.read_record(resumed.output, 4)
    assert record.about["start"] == checkpoint.read_record(through.output, 4).about["start"]


def test_a_unet_may_begin_without_the_dropout_of_the_run(pairs: str) -> None:
    """Bundles imported from the published code do not record dropout."""
    without = GeneratorConfig(width=4, depth=5)
    bundle, weights = trained(small.pix2pix(pairs, "memory://warm/dropout", steps=1, generator=without))
    start = warm_start.read(small.pix2pix(pairs, "out", start_from=bundle))
    small.assert_same_bits(start.networks["g"], weights["g"])


def test_cyclegan_takes_both_directions_whichever_it_is_run_for(unpaired: str) -> None:
    bundle, weights = trained(small.cyclegan(unpaired, "memory://warm/both", steps=1))
    turned = small.cyclegan(unpaired, "out", direction="b_to_a", start_from=bundle)
    start = warm_start.read(turned)
    for name, other in (("g_AB", "g_BA"), ("g_BA", "g_AB"), ("d_A", "d_B"), ("d_B", "d_A")):
        small.assert_same_bits(start.networks[name], weights[other])


def test_another_objective_gives_its_generator_only(pairs: str, unpaired: str) -> None:
    generator = GeneratorConfig(kind="resnet", width=4, depth=1, norm="instance")
    config = small.pix2pix(pairs, "memory://warm/other", steps=1, generator=generator, direction="b_to_a")
    bundle, weights = trained(config)
    start = warm_start.read(small.cyclegan(unpaired, "out", start_from=bundle))
    assert list(start.networks) == ["g_BA"]
    small.assert_same_bits(start.networks["g_BA"], weights["g"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"direction": "b_to_a"}, "has no generator b_to_a, which this run learns; it has a_to_b: set direction"),
        (
            {
                "generator": GeneratorConfig(width=8, depth=5),
                "discriminator": DiscriminatorConfig(in_channels=6, width=4, layers=2),
            },
            "this run's: generator.width is 4 there and 8 here; discriminator.norm is batch there and instance here",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(pairs: str, changes: dict[str, Any], message: str) -> None:
    bundle = "memory://warm/misfit/bundle"
    if storage.stat_file(f"{bundle}/config.json") is None:
        trained(small.pix2pix(pairs, "memory://warm/misfit", steps=1))
    with pytest.raises(UserError, match=message):
        warm_start.read(small.pix2pix(pairs, "out", start_from=bundle, **changes))


def test_another_bundle_is_another_recipe_and_a_lost_one_is_none(tmp_path: Path) -> None:
    pairs = small.write_pairs(str(tmp_path / "pairs"), 2)
    first, _ = trained(small.pix2pix(pairs, str(tmp_path / "first"), steps=1))
    second, _ = trained(small.pix2pix(pairs, str(tmp_path / "second"), steps=1, seed=1))
    config = small.pix2pix(pairs, str(tmp_path / "run"), steps=1, start_from=first)
    plan = run.prepare(config)
    run.record.begin(plan.config, plan.start)
    with pytest.raises(UserError, match=r"start_from\.sha256 was .* and is .* now"):
        run.prepare(dataclasses.replace(config, start_from=second))
    with pytest.raises(UserError, match=r"start_from\.sha256 was .* and is absent now"):
        run.prepare(dataclasses.replace(config, start_from=""))
    gone = dataclasses.replace(config, start_from=str(tmp_path / "gone"))
    with pytest.raises(UserError, match="no model bundle there"):
        run.prepare(gone)
    small.train_here(config)
    assert run.prepare(gone).start == plan.start


def test_an_unknown_part_to_freeze_is_found_before_the_work(tmp_path: Path) -> None:
    pairs = small.write_pairs(str(tmp_path / "pairs"), 2)
    with pytest.raises(UserError, match=r"freeze names g_AB: .* there are g, d"):
        run.prepare(small.pix2pix(pairs, str(tmp_path / "run"), freeze=("g_AB",)))


def test_networks_that_a_bundle_lacks_begin_as_they_would(pairs: str, unpaired: str) -> None:
    generator = GeneratorConfig(kind="resnet", width=4, depth=1, norm="instance")
    bundle, _ = trained(small.pix2pix(pairs, "memory://warm/one", steps=1, seed=1, generator=generator))
    config = small.cyclegan(unpaired, "memory://warm/rest", steps=1, learning_rate=1e-12, start_from=bundle)
    _, after = trained(config)
    fresh = build_objective(config).networks
    moved = {
        name: (after[name]["model.1.weight"] - fresh[name].state_dict()["model.1.weight"]).abs().max()
        for name in ("g_AB", "g_BA")
    }
    assert moved["g_AB"] > 1e-2
    assert moved["g_BA"] < 1e-9
