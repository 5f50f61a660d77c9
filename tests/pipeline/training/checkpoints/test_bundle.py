"""Bundle at the end of a run: its content, and that it translates."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

from gan_models import load_bundle
from pipeline import images, storage
from pipeline.training.checkpoints import checkpoint
from pipeline.training.checkpoints.bundle import export_bundle
from pipeline.training.config.train import TrainConfig
from pipeline.training.config.validation import Validation
from pipeline.training.data import loader
from tests.pipeline.training import small


def exported(config: TrainConfig) -> tuple[Any, checkpoint.State]:
    small.train_here(config)
    found = checkpoint.newest(config.output)
    assert found is not None
    record, parts = found
    url = export_bundle(config, loader.find_sources(config), record, parts)
    return load_bundle(lambda name: storage.read(storage.join(url, name)), discriminators=True), parts["networks"]


def test_a_bundle_of_pix2pix_holds_the_trained_generator_and_where_it_comes_from() -> None:
    store = small.write_pairs("memory://export/pairs", 3)
    config = small.pix2pix(store, "memory://export/pix2pix", steps=2, direction="b_to_a")
    bundle, networks = exported(config)
    assert bundle.directions == ("b_to_a",)
    assert bundle.training_size == 32
    small.assert_same_bits(bundle.generator().state_dict(), networks["g"])
    small.assert_same_bits(bundle.discriminators["b_to_a"].state_dict(), networks["d"])
    assert bundle.provenance["step"] == 2
    assert bundle.provenance["recipe"]["learning_rate"] == 2e-4
    assert bundle.provenance["data"]["images"] == [3, 3]
    assert bundle.provenance["versions"]["torch"] == torch.__version__
    grid = images.decode(storage.read("memory://export/pix2pix/bundle/sample.png")).pixels
    assert grid.shape == (3 * 32, 3 * 32, 3)
    # Direction b_to_a: the input is image_b, and the target on the right is image_a.
    assert np.array_equal(grid[:32, :32], images.resize(255 - small.picture(0, small.SIZE, small.SIZE), 32, 32))
    assert np.array_equal(grid[:32, 64:], images.resize(small.picture(0, small.SIZE, small.SIZE), 32, 32))


def test_a_moving_average_is_what_a_reader_of_the_bundle_gets() -> None:
    store = small.write_pairs("memory://export/averaged", 2)
    bundle, networks = exported(small.pix2pix(store, "memory://export/ema", steps=2, ema=0.5, learning_rate=1e-2))
    record = checkpoint.read_record("memory://export/ema", 2)
    average = checkpoint.read_part("memory://export/ema", record, "ema")["g"]
    small.assert_same_bits(bundle.generator().state_dict(), average)
    assert not average["model.model.0.weight"].equal(networks["g"]["model.model.0.weight"])
    grid = images.decode(storage.read("memory://export/ema/bundle/sample.png")).pixels
    translated = np.asarray(bundle(Image.fromarray(grid[:32, :32])))
    assert np.abs(translated.astype(int) - grid[:32, 32:64]).max() <= 1


def test_the_grid_shows_what_the_bundle_translates() -> None:
    store = small.write_pairs("memory://export/same", 2)
    bundle, _ = exported(small.pix2pix(store, "memory://export/grid", steps=2))
    grid = images.decode(storage.read("memory://export/grid/bundle/sample.png")).pixels
    translated = np.asarray(bundle(Image.fromarray(grid[:32, :32])))
    assert np.abs(translated.astype(int) - grid[:32, 32:64]).max() <= 1


def test_a_bundle_of_cyclegan_holds_both_directions_the_trained_one_first() -> None:
    store = small.write_unpaired("memory://export/unpaired", 3, 2)
    bundle, networks = exported(small.cyclegan(store, "memory://export/cyclegan", steps=2, direction="b_to_a"))
    assert bundle.directions == ("b_to_a", "a_to_b")
    small.assert_same_bits(bundle.generator("b_to_a").state_dict(), networks["g_AB"])
    small.assert_same_bits(bundle.generator("a_to_b").state_dict(), networks["g_BA"])
    small.assert_same_bits(bundle.discriminators["b_to_a"].state_dict(), networks["d_B"])
    small.assert_same_bits(bundle.discriminators["a_to_b"].state_dict(), networks["d_A"])
    grid = images.decode(storage.read("memory://export/cyclegan/bundle/sample.png")).pixels
    assert grid.shape == (2 * 32, 3 * 32, 3)  # input, translation, cycle
    there, back = (
        np.asarray(bundle(Image.fromarray(grid[:32, x : x + 32]), direction))
        for x, direction in ((0, "b_to_a"), (32, "a_to_b"))
    )
    assert np.abs(there.astype(int) - grid[:32, 32:64]).max() <= 1
    assert np.abs(back.astype(int) - grid[:32, 64:]).max() <= 1


def test_the_card_of_a_streamed_run_has_its_pictures_and_few_rows_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    store = small.write_store(
        "memory://export/streamed",
        shards=6,
        image_a=[small.picture(i) for i in range(12)],
        image_b=[small.picture(i) for i in range(12)],
    )
    read: list[str] = []
    read_rows = loader.read_rows
    config = small.pix2pix(store, "memory://export/streamed_run", steps=2, streaming="stream")
    small.train_here(config)
    monkeypatch.setattr(loader, "read_rows", lambda ranges, columns: read.extend(r.shard for r in ranges) or read_rows(
        ranges, columns
    ))  # fmt: skip
    bundle, _ = exported(config)
    assert bundle.provenance["recipe"]["streaming"] == "stream"
    assert read == ["000000.parquet", "000001.parquet"]
    grid = images.decode(storage.read("memory://export/streamed_run/bundle/sample.png")).pixels
    assert grid.shape == (4 * 32, 3 * 32, 3)


def test_the_card_has_the_last_scores_with_what_they_were_measured_on() -> None:
    store = small.write_pairs("memory://export/scored", 3)
    held_out = Validation(input=store, every=2, images=2)
    bundle, _ = exported(small.pix2pix(store, "memory://export/card", steps=2, ema=0.5, validation=held_out))
    history = checkpoint.read_record("memory://export/card", 2).about["validation"]
    card = ModelCard(storage.read("memory://export/card/bundle/README.md").decode())
    found = {result.metric_type: result for result in card.data.eval_results}
    assert {name: result.metric_value for name, result in found.items()} == {
        name: value for name, value in history[-1].items() if name != "step"
    }
    assert {"l1", "psnr", "ssim"} <= found.keys()
    result = found["psnr"]
    assert (result.task_type, result.dataset_name, result.metric_name) == ("image-to-image", store, "PSNR")
    assert result.metric_args == {
        "most_images": 2, "size": "32x32", "direction": "a_to_b", "compared": "each translation with its target",
        "weights": "moving average", "step": 2, "precision": "fp32",
    }  # fmt: skip
    assert "| PSNR | " in card.content
    assert bundle.provenance["step"] == 2


def test_scores_of_another_step_are_not_those_of_a_bundle() -> None:
    store = small.write_pairs("memory://export/earlier", 2)
    config = small.pix2pix(store, "memory://export/no_scores", steps=2)
    small.train_here(config)
    found = checkpoint.newest(config.output)
    assert found is not None
    record, parts = found
    record = dataclasses.replace(record, about=record.about | {"validation": [{"step": 1, "l1": 0.5}]})
    export_bundle(config, loader.find_sources(config), record, parts)
    card = ModelCard(storage.read("memory://export/no_scores/bundle/README.md").decode())
    assert card.data.eval_results is None
    assert "## Results" not in card.content
