"""Scores of a run on held-out images, the choice of the best checkpoint, and early stopping.

A history is plain data, one entry a validation, oldest first: {"step": 1000, "l1": 0.12, …}. Checkpoints keep it, so a
resumed run decides as one that was never stopped. With other images it begins anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline import storage
from pipeline.errors import UserError
from pipeline.images.basis import raster
from pipeline.scores.extractors.installed import INSTALL
from pipeline.scores.features import FeatureSet, features_are_there, kid, load_features
from pipeline.scores.table import BACK, mean_of_pairs, metric_named, metrics_in_validation
from pipeline.storage.retry import preflight
from pipeline.training.checkpoints.samples import translate_images
from pipeline.training.config.train import TrainConfig
from pipeline.training.data.loader import Sources, find_sources, load_images
from pipeline.training.model.directions import LearnedDirection, learned_directions

History = Sequence[Mapping[str, Any]]

_OTHER = {"A": "B", "B": "A"}


def validated_on(config: TrainConfig) -> list[Any] | None:
    """Return what identifies the images of a history, for the record beside it; None without validation."""
    return [config.validation.input, config.validation.images] if config.validation.input else None


def history_of(config: TrainConfig, about: Mapping[str, Any]) -> History:
    """Return the history in a checkpoint's record; empty where it is of other images, since scores do not compare."""
    before, now = about.get("validated_on"), validated_on(config)
    return about.get("validation", []) if now is None or before in (None, now) else []


def choose_metric(entry: Mapping[str, Any], metric: str = "") -> str | None:
    """Return the name in `entry` of `metric`; without one the first that is there, in the order of METRICS."""
    for wanted in [metric] if metric else [each.name for each in metrics_in_validation()]:
        kind, back = metric_named(wanted), wanted.endswith(BACK)
        for name in entry:
            if name == wanted or (
                kind and kind.needs_features and metric_named(name) is kind and back == name.endswith(BACK)
            ):
                return name
    return None


def best_step(history: History, metric: str = "", among: Collection[int] | None = None) -> int | None:
    """Return the step with the best score by `metric`, the earlier of two equal ones; only steps `among` those given.

    None where this metric was never measured. A score that is no finite number is never the best.
    """
    scored = [
        (score, entry["step"]) for entry, score in _scores(history, metric) if among is None or entry["step"] in among
    ]
    return min(scored)[1] if scored else None


def stopped_early(history: History, metric: str = "", patience: int | None = None) -> str:
    """Return why training should end: none of the last `patience` validations was better. Empty to go on."""
    best = best_step(history, metric)
    if patience is None or best is None or (since := _since(history, best)) < patience:
        return ""
    name = _common_name(history, metric)
    value = next(entry[name] for entry in history if entry["step"] == best)
    return f"no better {name} in {since} validations than {value:.4g} at step {best}"


def _since(history: History, best: int) -> int:
    return sum(entry["step"] > best for entry in history)


def _scores(history: History, metric: str) -> Iterator[tuple[Mapping[str, Any], float]]:
    """Yield each entry that has the metric, and its score, of which less is better."""
    name = _common_name(history, metric)
    kind = metric_named(name)
    higher = kind is not None and kind.higher_is_better
    for entry in history:
        value = entry.get(name)
        if value is not None and np.isfinite(value):
            yield entry, -value if higher else value


def _common_name(history: History, metric: str) -> str:
    """Return the name of `metric` in the first entry that has it; KIDs on other features do not compare."""
    return next((name for entry in history if (name := choose_metric(entry, metric))), "")


class Validator:
    """Measures networks on the first images of the validation store, resized to the crop size; used by one rank.

    Translations are made in fp32 and in translation mode, do not depend on each other, use no random numbers, and
    change nothing in the networks.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        """Read and decode the images. Raises what `find_sources` and `load_images` raise."""
        self._paired, self._device = config.objective_type.paired, device
        self._learns = learned_directions(config)
        sources = validation_sources(config)
        self._images = load_images(sources, config.crop_size, threads=torch.get_num_threads())
        self._features = load_features() if features_are_there() else None
        self._real: dict[str, Tensor] = {}

    def measure(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        """Return the scores of `networks`, named as in the objective, by metric.

        A score's name ends in `_back` for the direction from B to A. KID is named after its features, and left out
        where they are not installed or a set has one image only.
        """
        real = {"A": self._images.a, "B": self._images.b}
        scores = dict[str, float]()

        def translated_by(learned: LearnedDirection, images_NHWC: np.ndarray) -> np.ndarray:
            return translate_images(networks[learned.generator], learned.generator_config, images_NHWC)

        fakes = [translated_by(learned, real[learned.source]) for learned in self._learns]
        if self._paired:
            compared = [(fake, real[_OTHER[each.source]]) for each, fake in zip(self._learns, fakes, strict=True)]
        else:
            back = self._learns[::-1]
            cycled = [translated_by(each, fake) for each, fake in zip(back, fakes, strict=True)]
            compared = [(cycle, real[each.source]) for each, cycle in zip(self._learns, cycled, strict=True)]
        for metric in metrics_in_validation("pairs" if self._paired else "cycles"):
            for learned, pair in zip(self._learns, compared, strict=True):
                scores[metric.name + _ending(learned.source)] = mean_of_pairs(metric, zip(*pair, strict=True))
        for learned, fake in zip(self._learns, fakes, strict=True):
            side = _OTHER[learned.source]
            scores |= self._kid(side, real[side], fake, _ending(learned.source))
        return scores

    def _kid(self, side: str, real: np.ndarray, fakes: np.ndarray, suffix: str) -> dict[str, float]:
        if self._features is None or min(len(real), len(fakes)) < 2:
            return {}
        if side not in self._real:
            self._real[side] = self._features_of(real)
        return {self._features.kid_name + suffix: kid(self._real[side], self._features_of(fakes))}

    def _features_of(self, pictures: np.ndarray) -> Tensor:
        assert self._features
        found = FeatureSet(self._features, self._device)
        for picture in raster.shown(pictures):  # the network of the features takes RGB
            found.add(picture)
        return found.values()


def check_validation(config: TrainConfig) -> None:
    """Raise UserError where the validation store does not fit, or its metric cannot be measured."""
    url, metric = config.validation.input, config.validation.metric
    if storage.is_memory(url):
        raise UserError(f"{url}: memory:// is seen by one process alone, and Ray's workers are others")
    with preflight(url):
        validation_sources(config)
    if metric.startswith("kid") and not features_are_there():
        raise UserError(f"validation.metric is {metric}: {INSTALL}, or choose another metric")
    objective = config.objective_type
    names = [each.name for each in metrics_in_validation("sets", "pairs" if objective.paired else "cycles")]
    known = [name + _ending(learned.source) for name in names for learned in objective.learns]
    if metric and metric not in known:
        raise UserError(f"validation.metric is {metric}: {config.objective} has {', '.join(known)}")


def validation_sources(config: TrainConfig) -> Sources:
    """Return the images to validate on. Raises UserError where the store lacks those that the objective needs."""
    found = find_sources(dataclasses.replace(config, input=config.validation.input, input_b=""))
    return Sources(a=found.a.first(config.validation.images), b=found.b.first(config.validation.images))


def _ending(source: str) -> str:
    return "" if source == "A" else BACK
