"""Export of a checkpoint as a model bundle, and translations by a generator that is still in training."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from gan_models import GeneratorConfig, save_bundle
from pipeline import images, storage
from pipeline.images.basis import raster
from pipeline.models.arithmetic import exact
from pipeline.models.translator import Translator
from pipeline.training.checkpoints.checkpoint import Record, State
from pipeline.training.config.train import TrainConfig
from pipeline.training.data.loader import ImageSet, Sources, load_images
from pipeline.training.model.directions import learned_directions
from pipeline.training.model.replica import build_objective

SAMPLES = 4
"""Rows of images on a bundle's card."""
_BATCH = 8


def export_bundle(
    config: TrainConfig, sources: Sources, record: Record, parts: Mapping[str, State], *, name: str = "bundle"
) -> str:
    """Write the bundle RUN/NAME from the `parts` of a checkpoint, `networks` and perhaps `ema`; return its URL.

    The generator that a reader of the bundle gets first, the moving average where there is one, makes the samples on
    its card. config.json is written last, so that a kill leaves no bundle that looks whole.
    """
    url = storage.join(config.output, name)
    networks, averages, ours = parts["networks"], parts.get("ema", {}), learned_directions(config)
    objective = build_objective(config)
    for network in objective.generator_names:
        objective.networks[network].load_state_dict({**networks, **averages}[network])
    first = objective.networks[objective.generator_names[0]]
    save_bundle(
        lambda file, data: storage.replace(storage.join(url, file), data),
        objective=config.objective,
        generators={place.direction: (place.generator_config, networks[place.generator]) for place in ours},
        ema={place.direction: averages[place.generator] for place in ours if averages},
        discriminators={place.direction: (place.discriminator_config, networks[place.discriminator]) for place in ours},
        direction=config.direction,
        training_size=config.crop_size,
        provenance=_provenance(config, sources, record),
        card_image=images.encode(sample_grid(config, sources, first), images.Encoding(codec="png")),
    )
    return url


def remove_bundle(run: str, name: str) -> None:
    """Remove RUN/NAME if it is there; config.json first, so that a kill leaves no bundle that looks whole."""
    files = storage.list_files(storage.join(run, name))
    for file in sorted(files, key=lambda file: file.name != "config.json"):
        storage.delete(file.url)


def sample_grid(config: TrainConfig, sources: Sources, generator: nn.Module) -> np.ndarray:
    """Draw a row for each of the first few images: input, translation and, for pairs, target.

    Returns pixels [height, width, 3].
    """
    few = sample_images(config, sources)
    return draw_samples(generator, config.generator, few.a, few.b if config.objective_type.paired else None)


def sample_images(config: TrainConfig, sources: Sources) -> ImageSet:
    """Return the first few images of each side, at the size of the crops."""
    few = Sources(a=sources.a.first(SAMPLES), b=sources.b.first(SAMPLES))
    return load_images(few, config.crop_size, threads=1)


def draw_samples(
    generator: nn.Module, config: GeneratorConfig, inputs_NHWC: np.ndarray, targets_NHWC: np.ndarray | None
) -> np.ndarray:
    """Draw a row for each input: input, translation and, where there are any, target; pixels [height, width, 3].

    Pixels of other types than RGB are as `raster.shown` has them.
    """
    columns = [inputs_NHWC, translate_images(generator, config, inputs_NHWC)]
    if targets_NHWC is not None:
        columns.append(targets_NHWC)
    return np.concatenate([np.concatenate(list(raster.shown(column))) for column in columns], axis=1)


def translate_images(generator: nn.Module, config: GeneratorConfig, images_NHWC: np.ndarray) -> np.ndarray:
    """Return the translations of images of one size by a generator in training, in fp32; [N, H, W, C]."""
    device = next((parameter.device for parameter in generator.parameters()), torch.device("cpu"))
    own = copy.deepcopy(generator)  # a translator may lay out weights in another way
    return Translator.of(own, config, exact(device.type, batch=min(_BATCH, len(images_NHWC)))).all(list(images_NHWC))


def _provenance(config: TrainConfig, sources: Sources, record: Record) -> dict[str, Any]:
    return {
        "recipe": config.recipe(),
        "start": record.about.get("start"),
        "step": record.step,
        "epochs": [config.epochs, config.decay_epochs],
        "data": {
            "source": sources.a.url,
            "target": sources.b.url,
            "images": [sources.a.images, sources.b.images],
            "sha256": record.about.get("fingerprint"),
        },
        "arithmetic": record.about.get("arithmetic"),
        "versions": {"torch": torch.__version__} | images.codec_versions(),
    }
