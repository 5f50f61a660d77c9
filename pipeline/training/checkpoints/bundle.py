"""Export of a checkpoint as a model bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from gan_models import save_bundle, translation_mode
from gan_models.pixels import from_uint8, to_uint8
from pipeline import images, storage
from pipeline.training.checkpoints.checkpoint import Record, State
from pipeline.training.config.train import TrainConfig
from pipeline.training.data.loader import ImageSet, Sources, load_images
from pipeline.training.model.directions import learned_directions
from pipeline.training.model.replica import build_objective

_SAMPLES = 4
_BATCH = 8


def export_bundle(
    config: TrainConfig, sources: Sources, record: Record, parts: Mapping[str, State], *, name: str = "bundle"
) -> str:
    """Write RUN/NAME from the `parts` of a checkpoint, `networks` and `ema` (if present), and return its URL.

    The card's images are made with the weights that a reader of the bundle gets by default: the moving average if there
    is one. config.json is written last.
    """
    url = storage.join(config.output, name)
    networks, averages, directions = parts["networks"], parts.get("ema", {}), learned_directions(config)
    objective = build_objective(config)
    for network in objective.generator_names:
        objective.networks[network].load_state_dict({**networks, **averages}[network])
    first = objective.networks[objective.generator_names[0]]
    save_bundle(
        lambda file, data: storage.replace(storage.join(url, file), data),
        objective=config.objective,
        generators={
            learned.direction: (learned.generator_config, networks[learned.generator]) for learned in directions
        },
        ema={learned.direction: averages[learned.generator] for learned in directions if averages},
        discriminators={
            learned.direction: (learned.discriminator_config, networks[learned.discriminator]) for learned in directions
        },
        direction=config.direction,
        training_size=config.crop_size,
        provenance=_provenance(config, sources, record),
        card_image=images.encode(sample_grid(config, sources, first), images.Encoding(codec="png")),
    )
    return url


def remove_bundle(run: str, name: str) -> None:
    """Remove RUN/NAME if it exists; config.json goes first, so that files left behind by a kill are no bundle."""
    files = storage.list_files(storage.join(run, name))
    for file in sorted(files, key=lambda file: file.name != "config.json"):
        storage.delete(file.url)


def sample_grid(config: TrainConfig, sources: Sources, generator: nn.Module) -> np.ndarray:
    """Draw a row for each of the first few images: input, translation and, for pairs, target; uint8 [H, W, 3]."""
    few = sample_images(config, sources)
    return draw_samples(generator, few.a, few.b if config.objective_type.paired else None)


def sample_images(config: TrainConfig, sources: Sources) -> ImageSet:
    """Return the first few images of each side, decoded at the crop size."""
    few = Sources(a=sources.a.first(_SAMPLES), b=sources.b.first(_SAMPLES))
    return load_images(few, config.crop_size, threads=1)


def draw_samples(generator: nn.Module, inputs_NHWC: np.ndarray, targets_NHWC: np.ndarray | None) -> np.ndarray:
    """Draw a row for each input: input, translation and, where there are targets, target; uint8 [height, width, 3]."""
    device = next(generator.parameters()).device
    columns = [inputs_NHWC, translate_pictures(generator, inputs_NHWC, device)]
    if targets_NHWC is not None:
        columns.append(targets_NHWC)
    return np.concatenate([np.concatenate(list(column)) for column in columns], axis=1)


def translate_pictures(generator: nn.Module, pictures_NHWC: np.ndarray, device: torch.device) -> np.ndarray:
    """Translate images of one size with `generator` in translation mode, a few at a time; uint8 [N, H, W, C]."""
    translate = translation_mode(generator)
    outputs = []
    with torch.inference_mode():
        for start in range(0, len(pictures_NHWC), _BATCH):
            pixels_NCHW = torch.from_numpy(pictures_NHWC[start : start + _BATCH]).permute(0, 3, 1, 2).to(device)
            output_NCHW = to_uint8(translate(from_uint8(pixels_NCHW)))
            outputs.append(output_NCHW.permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(outputs)


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
