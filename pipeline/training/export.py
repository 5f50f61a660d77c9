"""From a checkpoint to a model bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from gan_models import save_bundle, translation_mode
from gan_models.pixels import from_uint8, to_uint8
from pipeline import images, storage
from pipeline.config.train import TrainConfig
from pipeline.training.checkpoint import Record, State
from pipeline.training.loader import Sources, load_images
from pipeline.training.places import places
from pipeline.training.replica import build_objective

_SAMPLES = 4


def export_bundle(config: TrainConfig, sources: Sources, record: Record, parts: Mapping[str, State]) -> str:
    """Write RUN/bundle from the `parts` of a checkpoint: `networks` and, where it is there, `ema`; returns its URL.

    The card's pictures are made with what a reader of the bundle gets first, the moving average where there is one.
    config.json is written last.
    """
    url = storage.join(config.output, "bundle")
    networks, averages, ours = parts["networks"], parts.get("ema", {}), places(config)
    objective = build_objective(config.model(), config.seed)
    for name in objective.generator_names:
        objective.networks[name].load_state_dict({**networks, **averages}[name])
    first = objective.networks[objective.generator_names[0]]
    save_bundle(
        lambda name, data: storage.replace(storage.join(url, name), data),
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


def sample_grid(config: TrainConfig, sources: Sources, generator: nn.Module) -> np.ndarray:
    """A row for each of the first few images: input, translation and, for pairs, target. uint8 [height, width, 3]."""
    a, b = sources.a.first(_SAMPLES), sources.b.first(_SAMPLES)
    few = load_images(Sources(a=a, b=b), config.crop_size, threads=1)
    translate = translation_mode(generator)
    with torch.inference_mode():
        output_NCHW = to_uint8(translate(from_uint8(torch.from_numpy(few.a).permute(0, 3, 1, 2))))
    columns = [few.a, output_NCHW.permute(0, 2, 3, 1).numpy()]
    if config.objective == "pix2pix":
        columns.append(few.b)
    return np.concatenate([np.concatenate(list(column)) for column in columns], axis=1)


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
