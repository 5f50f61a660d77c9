"""Samples of a run: the first few images of each side, translated by generators in training, or trained."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from gan_models import GeneratorConfig
from pipeline.images.basis import raster
from pipeline.models.arithmetic import exact
from pipeline.models.translator import Translator
from pipeline.training.config.train import TrainConfig
from pipeline.training.data.loader import ImageSet, Sources, load_images
from pipeline.training.model.directions import LearnedDirection, learned_directions

SAMPLES = 4
"""Images of each side that are translated."""
_BATCH = 8


class Samples(NamedTuple):
    """Pictures of one direction."""

    learned: LearnedDirection
    columns: Mapping[str, np.ndarray]
    """By head, [N, H, W, C] each: "input", "translation" and, for pairs, "target"; for two sets "cycle", which is the
    translation translated back, where the run learns the way back."""


def sample_images(config: TrainConfig, sources: Sources) -> ImageSet:
    """Return the first few images of each side, at the size of the crops."""
    few = Sources(a=sources.a.first(SAMPLES), b=sources.b.first(SAMPLES))
    return load_images(few, config.crop_size, threads=1)


def samples_of(config: TrainConfig, networks: Mapping[str, nn.Module], few: ImageSet) -> Iterator[Samples]:
    """Yield the pictures of each direction that the run learns, the configured direction first.

    `networks` has the generators by their names in the objective. They are not changed, and no random number is drawn.
    """
    learns, paired = learned_directions(config), config.objective_type.paired
    for learned in learns:
        inputs = few.a if learned.source == "A" else few.b
        columns = {"input": inputs, "translation": _translated(learned, networks, inputs)}
        back = next((each for each in learns if each.source != learned.source), None)
        if paired:
            columns["target"] = few.b if learned.source == "A" else few.a
        elif back:
            columns["cycle"] = _translated(back, networks, columns["translation"])
        yield Samples(learned, columns)


def grid(samples: Samples) -> np.ndarray:
    """Return the pictures of one direction side by side, a row for each image: pixels [height, width, 3].

    Pixels of other types than RGB are as `raster.shown` has them.
    """
    columns = [np.concatenate(list(raster.shown(column))) for column in samples.columns.values()]
    return np.concatenate(columns, axis=1)


def _translated(learned: LearnedDirection, networks: Mapping[str, nn.Module], images_NHWC: np.ndarray) -> np.ndarray:
    return translate_images(networks[learned.generator], learned.generator_config, images_NHWC)


def translate_images(generator: nn.Module, config: GeneratorConfig, images_NHWC: np.ndarray) -> np.ndarray:
    """Return the translations of images of one size by a generator in training, in fp32; [N, H, W, C]."""
    device = next((parameter.device for parameter in generator.parameters()), torch.device("cpu"))
    own = copy.deepcopy(generator)  # a translator may lay out weights in another way
    return Translator.of(own, config, exact(device.type, batch=min(_BATCH, len(images_NHWC)))).all(list(images_NHWC))
