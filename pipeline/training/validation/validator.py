"""Validation: a run measured on held-out images, which checkpoint is best, and when to stop.

A history is plain data, one entry a validation, oldest first: {"step": 1000, "l1": 0.12, …}. It is kept in the
checkpoints, so a resumed run decides as one that went through. With other images it begins anew.
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
from pipeline.scores.features import INSTALL, FeatureSet, features_are_there, kid, load_features
from pipeline.scores.metrics import l1
from pipeline.storage.retry import preflight
from pipeline.training.checkpoints.bundle import translate_pictures
from pipeline.training.config.train import TrainConfig
from pipeline.training.data.loader import Sources, find_sources, load_images

History = Sequence[Mapping[str, Any]]

_HIGHER_IS_BETTER = ("ssim",)
_PREFERRED = ("kid", "l1", "cycle_l1")


def validated_on(config: TrainConfig) -> list[Any] | None:
    """Which images a history is of, for the record beside it; None without validation."""
    return [config.validation.input, config.validation.images] if config.validation.input else None


def history_of(config: TrainConfig, about: Mapping[str, Any]) -> History:
    """The history in a checkpoint's record; empty where it is of other images, whose numbers do not compare."""
    before, now = about.get("validated_on"), validated_on(config)
    return about.get("validation", []) if now is None or before in (None, now) else []


def choose_metric(entry: Mapping[str, Any], metric: str = "") -> str | None:
    """The name in `entry` that `metric` means; without one the first there is of KID, L1 and cycle error."""
    for wanted in [metric] if metric else _PREFERRED:
        kind, back = wanted.removesuffix("_back"), wanted.endswith("_back")
        for name in entry:
            if name == wanted or (kind == "kid" and name.startswith("kid_") and name.endswith("_back") == back):
                return name
    return None


def best_step(history: History, metric: str = "", among: Collection[int] | None = None) -> int | None:
    """The step that was best by `metric`, the earlier where two are; of those `among` which there is a choice.

    None where nothing was measured, or not this metric. What is no number is never best.
    """
    scored = [
        (score, entry["step"]) for entry, score in _scores(history, metric) if among is None or entry["step"] in among
    ]
    return min(scored)[1] if scored else None


def stopped_early(history: History, metric: str = "", patience: int | None = None) -> str:
    """Why training should end here: no better validation for `patience` of them. Empty where it should go on."""
    best = best_step(history, metric)
    if patience is None or best is None or (since := _since(history, best)) < patience:
        return ""
    name = _common_name(history, metric)
    value = next(entry[name] for entry in history if entry["step"] == best)
    return f"no better {name} in {since} validations than {value:.4g} at step {best}"


def _since(history: History, best: int) -> int:
    return sum(entry["step"] > best for entry in history)


def _scores(history: History, metric: str) -> Iterator[tuple[Mapping[str, Any], float]]:
    """Each entry that has the metric, and its score; less is better."""
    name = _common_name(history, metric)
    for entry in history:
        value = entry.get(name)
        if value is not None and np.isfinite(value):
            yield entry, -value if name in _HIGHER_IS_BETTER else value


def _common_name(history: History, metric: str) -> str:
    """What `metric` means in the first entry that has it, and so for all: KIDs on other features do not compare."""
    return next((name for entry in history if (name := choose_metric(entry, metric))), "")


class Validator:
    """Measures networks on the first images of the validation store, resized to the crop size. For one rank.

    Each image is translated by itself in translation mode, in fp32; nothing random is used, and nothing in the
    networks changes.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        """Reads and decodes the images. Raises what `find_sources` and `load_images` raise."""
        self._paired, self._device = config.objective == "pix2pix", device
        sources = validation_sources(config)
        self._images = load_images(sources, config.crop_size, threads=torch.get_num_threads())
        self._features = load_features() if features_are_there() else None
        self._real: dict[str, Tensor] = {}

    def measure(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        """What `networks`, named as in the objective, reach.

        Pairs: `l1` (0 to 1), `ssim` (to 1) and KID. Two sets: KID and `cycle_l1`, the distance of an image to itself
        after a translation there and back; `_back` is the direction from the target domain. KID is named after its
        features, and left out where they are not installed or a set has one picture only.
        """
        a, b = self._images.a, self._images.b
        if self._paired:
            fakes = translate_pictures(networks["g"], a, self._device)
            return {
                "l1": _mean_l1(fakes, b),
                "ssim": _ssim(fakes, b),
                **self._kid("b", b, fakes, ""),
            }
        forth, back = networks["g_AB"], networks["g_BA"]
        fakes_b, fakes_a = translate_pictures(forth, a, self._device), translate_pictures(back, b, self._device)
        return {
            "cycle_l1": _mean_l1(translate_pictures(back, fakes_b, self._device), a),
            "cycle_l1_back": _mean_l1(translate_pictures(forth, fakes_a, self._device), b),
            **self._kid("b", b, fakes_b, ""),
            **self._kid("a", a, fakes_a, "_back"),
        }

    def _kid(self, side: str, real: np.ndarray, fakes: np.ndarray, suffix: str) -> dict[str, float]:
        if self._features is None or min(len(real), len(fakes)) < 2:
            return {}
        if side not in self._real:
            self._real[side] = self._features_of(real)
        return {self._features.kid_name + suffix: kid(self._real[side], self._features_of(fakes))}

    def _features_of(self, pictures: np.ndarray) -> Tensor:
        assert self._features
        found = FeatureSet(self._features, self._device)
        for picture in pictures:
            found.add(picture)
        return found.values()


def check_validation(config: TrainConfig) -> None:
    """Raises UserError where the validation store does not fit, or the metric of the best checkpoint is not there."""
    url, metric = config.validation.input, config.validation.metric
    if storage.is_memory(url):
        raise UserError(f"{url}: memory:// is seen by one process alone, and Ray's workers are others")
    with preflight(url):
        validation_sources(config)
    if metric.startswith("kid") and not features_are_there():
        raise UserError(f"validation.metric is {metric}: {INSTALL}, or choose another metric")
    known = ("kid", "l1", "ssim") if config.objective == "pix2pix" else ("kid", "kid_back", "cycle_l1", "cycle_l1_back")
    if metric and metric not in known:
        raise UserError(f"validation.metric is {metric}: {config.objective} has {', '.join(known)}")


def validation_sources(config: TrainConfig) -> Sources:
    """The images that are validated on. Raises UserError where the store lacks what the objective needs."""
    found = find_sources(dataclasses.replace(config, input=config.validation.input, input_b=""))
    return Sources(a=found.a.first(config.validation.images), b=found.b.first(config.validation.images))


def _mean_l1(pictures: np.ndarray, targets: np.ndarray) -> float:
    return float(np.mean([l1(picture, target) for picture, target in zip(pictures, targets, strict=True)]))


def _ssim(pictures: np.ndarray, targets: np.ndarray) -> float:
    """Mean structural similarity (Wang et al. 2004; 11×11 Gaussian window, on RGB)."""
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    values = []
    for picture, target in zip(pictures, targets, strict=True):
        one, other = (torch.from_numpy(p).permute(2, 0, 1)[None].double() for p in (picture, target))
        values.append(float(ssim(one, other, data_range=255.0)))  # type: ignore[arg-type]
    return float(np.mean(values))
