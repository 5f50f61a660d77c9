"""Samples of a run: pictures of each direction, made without a random number and without a change of the networks."""

from __future__ import annotations

import numpy as np
import torch

from gan_models import DiscriminatorConfig, GeneratorConfig
from pipeline.training.checkpoints.samples import grid, sample_images, samples_of, translate_images
from pipeline.training.config.train import TrainConfig
from pipeline.training.data import loader
from pipeline.training.model.replica import build_objective
from tests.pipeline.training import small


def test_two_sets_are_shown_there_and_back_in_both_directions() -> None:
    config = small.cyclegan(small.write_unpaired("memory://samples/unpaired", 5, 3), "out")
    networks = torch.nn.ModuleDict(build_objective(config).networks).train()
    before = {name: tensor.clone() for name, tensor in networks.state_dict().items()}
    random = torch.random.get_rng_state()
    there, back = samples_of(config, dict(networks), sample_images(config, loader.find_sources(config)))
    assert torch.equal(torch.random.get_rng_state(), random)
    small.assert_same_bits(networks.state_dict(), before)
    assert all(module.training for module in networks.modules())
    assert (there.learned.direction, back.learned.direction) == ("a_to_b", "b_to_a")
    assert list(there.columns) == list(back.columns) == ["input", "translation", "cycle"]
    assert [len(columns["input"]) for _, columns in (there, back)] == [4, 3]
    cycle = translate_images(networks["g_BA"], back.learned.generator_config, there.columns["translation"])
    assert np.array_equal(there.columns["cycle"], cycle)
    assert grid(back).shape == (3 * 32, 3 * 32, 3)


def test_pairs_are_shown_beside_their_targets_and_have_no_cycle() -> None:
    config = small.pix2pix(small.write_pairs("memory://samples/pairs", 2), "out", direction="b_to_a")
    networks = build_objective(config).networks
    [only] = samples_of(config, networks, sample_images(config, loader.find_sources(config)))
    assert list(only.columns) == ["input", "translation", "target"]
    assert np.abs(only.columns["input"].astype(int) + only.columns["target"] - 255).max() <= 1


def test_domains_of_other_channels_go_there_and_back() -> None:
    config = TrainConfig(
        input=small.write_unpaired("memory://samples/grey", 2, 2), output="out", objective="cyclegan",
        generator=GeneratorConfig(kind="resnet", width=4, depth=1, norm="instance", in_channels=3, out_channels=1),
        discriminator=DiscriminatorConfig(in_channels=1, width=4, layers=2), gan_loss="lsgan",
        load_size=small.SIZE, crop_size=32, lambda_identity=0,
    )  # fmt: skip
    few = loader.ImageSet(a=np.zeros((2, 32, 32, 3), np.uint8), b=np.zeros((2, 32, 32, 1), np.uint8), fingerprint="")
    there, back = samples_of(config, build_objective(config).networks, few)
    assert [there.columns[head].shape[3] for head in there.columns] == [3, 1, 3]
    assert [back.columns[head].shape[3] for head in back.columns] == [1, 3, 1]
    assert grid(back).shape == (2 * 32, 3 * 32, 3)
