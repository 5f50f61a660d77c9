"""Export of a checkpoint as a model bundle."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from gan_models import save_bundle
from pipeline import images, storage
from pipeline.scores.table import BACK, metric_named
from pipeline.training.checkpoints.checkpoint import Record, State
from pipeline.training.checkpoints.samples import Samples, grid, sample_images, samples_of
from pipeline.training.config.train import TrainConfig
from pipeline.training.data.loader import Sources
from pipeline.training.model.directions import OPPOSITE, learned_directions
from pipeline.training.model.replica import build_objective

_COMPARED = {
    "pairs": "each translation with its target",
    "sets": "all translations with all images of their domain",
    "cycles": "each image with itself, translated there and back",
}
"""What a metric compares, in words, by what it is measured on."""


def drawn_samples(config: TrainConfig, sources: Sources, parts: Mapping[str, State]) -> Iterator[Samples]:
    """Yield samples of each direction, by the generators in the `parts` of a checkpoint.

    They are those that a reader of the bundle gets: the moving average where there is one.
    """
    objective, states = build_objective(config), {**parts["networks"], **parts.get("ema", {})}
    for name in objective.generator_names:
        objective.networks[name].load_state_dict(states[name])
    return samples_of(config, objective.networks, sample_images(config, sources))


def export_bundle(
    config: TrainConfig,
    sources: Sources,
    record: Record,
    parts: Mapping[str, State],
    *,
    name: str = "bundle",
    samples: Samples | None = None,
) -> str:
    """Write the bundle RUN/NAME from the `parts` of a checkpoint, `networks` and perhaps `ema`; return its URL.

    The card shows `samples`, by default the first that are drawn. config.json is written last, so that a kill leaves no
    bundle that looks whole.
    """
    url = storage.join(config.output, name)
    networks, averages, ours = parts["networks"], parts.get("ema", {}), learned_directions(config)
    shown = grid(samples or next(drawn_samples(config, sources, parts)))
    save_bundle(
        lambda file, data: storage.replace(storage.join(url, file), data),
        objective=config.objective,
        generators={place.direction: (place.generator_config, networks[place.generator]) for place in ours},
        ema={place.direction: averages[place.generator] for place in ours if averages},
        discriminators={place.direction: (place.discriminator_config, networks[place.discriminator]) for place in ours},
        direction=config.direction,
        training_size=config.crop_size,
        provenance=_provenance(config, sources, record),
        card_image=images.encode(shown, images.Encoding(codec="png")),
        results=list(_results(config, record, averaged=bool(averages))),
    )
    return url


def remove_bundle(run: str, name: str) -> None:
    """Remove RUN/NAME if it is there; config.json first, so that a kill leaves no bundle that looks whole."""
    files = storage.list_files(storage.join(run, name))
    for file in sorted(files, key=lambda file: file.name != "config.json"):
        storage.delete(file.url)


def _results(config: TrainConfig, record: Record, *, averaged: bool) -> Iterator[Mapping[str, Any]]:
    """Yield the scores of the last validation as results for the card, where it was of the weights of this step."""
    entry: Mapping[str, Any] = next(
        (each for each in record.about.get("validation", []) if each["step"] == record.step), {}
    )
    url, most = record.about.get("validated_on") or (config.validation.input, config.validation.images)
    for name, value in entry.items():
        metric = metric_named(name)
        if metric is None:  # the step
            continue
        protocol = {
            "dataset": url,
            "most_images": most,
            "size": f"{config.crop_size}x{config.crop_size}",
            "direction": OPPOSITE[config.direction] if name.endswith(BACK) else config.direction,
            "compared": _COMPARED[metric.on],
            "weights": "moving average" if averaged else "as trained",
            "step": record.step,
            "precision": "fp32",
        }
        yield {
            "metric": name,
            "name": f"{metric.title}{', back' if name.endswith(BACK) else ''}",
            "value": value if value is not None and math.isfinite(value) else None,
            "protocol": protocol,
        }


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
