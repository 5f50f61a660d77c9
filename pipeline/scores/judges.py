"""Scores of a translation by the networks that were trained with its generator, without a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_models.config import OPPOSITE
from gan_models.description import Description
from pipeline.errors import UserError
from pipeline.models.arithmetic import Arithmetic

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gan_models import Bundle
    from pipeline.models.translator import Translator

_LOSS_OF = {"pix2pix": "vanilla", "cyclegan": "lsgan"}
"""Loss of an objective where the bundle's recipe does not name it."""


def check_scores(described: Description, direction: str, names: Sequence[str]) -> Mapping[str, Any]:
    """Return, by score, the fingerprint of the network that judges; a record keeps it.

    Raises UserError where the bundle lacks that network.
    """
    found = dict[str, Any]()
    for name in names:
        judge = f"{direction}.discriminator" if name == "realism" else _opposite(direction)
        if judge not in described.files:
            raise UserError(
                f"{described.place}: has no {judge.replace('.', ' ')}, which scores {name}; "
                + ("train writes it" if name == "realism" else "a bundle of CycleGAN has both directions")
            )
        found[name] = described.files[judge].sha256
    return found


def _opposite(direction: str) -> str:
    return next(other for one, other in OPPOSITE.items() if one == direction)


def judge(url: str, direction: str, names: Sequence[str], arithmetic: Arithmetic) -> Judges:
    """Load the networks that score translations by the generator of this direction in the bundle at `url`."""
    from pipeline.models.bundles import open_bundle

    return Judges(open_bundle(url, discriminators=True), direction, names, arithmetic)


class Judges:
    """Networks that score translations, each image by itself."""

    def __init__(self, bundle: Bundle, direction: str, names: Sequence[str], arithmetic: Arithmetic) -> None:
        """Prepare the networks of a bundle that was loaded with its discriminators and both directions."""
        from pipeline.models.translator import Translator

        self._names, self._arithmetic = names, arithmetic
        self._discriminator: nn.Module | None = None
        self._back: Translator | None = None
        if "realism" in names:
            network = bundle.discriminators[direction].eval().requires_grad_(False)
            self._discriminator = network.to(arithmetic.device)
            self._least = bundle.discriminator_configs[direction].least_size
            self._sees_both = bundle.discriminator_configs[direction].in_channels > 3
            recipe = bundle.provenance.get("recipe") or {}
            self._is_probability = recipe.get("gan_loss", _LOSS_OF.get(bundle.objective)) == "vanilla"
        if "cycle_l1" in names:
            other = _opposite(direction)
            self._back = Translator.of(bundle.generator(other), bundle.generator_configs[other], arithmetic)

    def __call__(self, frames: Sequence[np.ndarray], translations: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the scores by name, float64 [N], for `frames` ([H, W, 3] uint8 each) and the translations of some.

        A frame without a translation has none (nan), nor has one that is too small for the discriminator, or whose way
        back fails.
        """
        scores = {name: np.full(len(frames), np.nan) for name in self._names}
        if self._discriminator is not None:
            for i, translation in translations.items():
                if min(translation.shape[:2]) >= self._least:
                    scores["realism"][i] = self._realism(frames[i], translation)
        if self._back is not None:
            from pipeline.scores.metrics import l1

            positions = list(translations)
            back, _ = self._back([translations[i] for i in positions])
            for at, image in back.items():
                scores["cycle_l1"][positions[at]] = l1(frames[positions[at]], image)
        return scores

    def _realism(self, frame: np.ndarray, translation: np.ndarray) -> float:
        """Return the mean verdict, in tiles where the generator takes tiles."""
        import torch

        from gan_models.pixels import from_pixels
        from gan_models.tiling import Rows, strips, tiled_layers

        assert self._discriminator is not None
        seen = [frame, translation] if self._sees_both else [translation]

        def read(start: int, stop: int) -> Tensor:
            parts = [torch.from_numpy(each[start:stop]).permute(2, 0, 1)[None] for each in seen]
            return from_pixels(torch.cat(parts, 1).to(self._arithmetic.device))

        size = (translation.shape[0], translation.shape[1])
        count = self._arithmetic.tiles_of(size) if self._arithmetic.is_tiled(size) else 1
        (layers,) = self._discriminator.children()
        with torch.inference_mode():
            made = tiled_layers(list(layers.children()), Rows(size[0], read), count)
            total, values = 0.0, 0
            for start, stop in strips(made.height, count):
                verdicts = made.read(start, stop).double()
                total += float((verdicts.sigmoid() if self._is_probability else verdicts).sum())
                values += verdicts.numel()
        return total / values
