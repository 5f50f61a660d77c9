"""Scores of a translation without a target: by the networks that were trained with its generator, or by another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from gan_models.config import OPPOSITE, Direction
from gan_models.description import Description
from pipeline.cluster.watchdog import made_progress
from pipeline.errors import UserError
from pipeline.models.arithmetic import Arithmetic
from pipeline.scores.metrics import l1
from pipeline.scores.names import BY_ITS_NETWORKS, SCORES

if TYPE_CHECKING:
    from torch import Tensor

    from gan_models import Bundle
    from pipeline.models.runners import LoadedProgram
    from pipeline.models.translator import Translator

_LOSS_OF = {"pix2pix": "vanilla", "cyclegan": "lsgan"}
"""Loss of an objective where the bundle's recipe does not name it."""
_AT_ONCE_BYTES = 32_000_000
"""Bytes of translations, at most, that are translated back before they are compared, or one image."""


def judges(described: Description, direction: str, names: Sequence[str]) -> Mapping[str, str]:
    """Return, for each of these scores by a bundle's own networks, the name of the one that judges.

    Raises UserError where the bundle lacks that network.
    """
    found = dict[str, str]()
    for name in (each for each in SCORES if each in names and each in BY_ITS_NETWORKS):
        judge = f"{direction}.discriminator" if name == "realism" else _opposite(direction)
        if judge not in described.files:
            raise UserError(
                f"{described.place}: has no {judge.replace('.', ' ')}, which scores {name}; "
                + ("train writes it" if name == "realism" else "a bundle of CycleGAN has both directions")
            )
        found[name] = judge
    return found


def _opposite(direction: str) -> str:
    return OPPOSITE[cast(Direction, direction)]


def way_back(url: str, direction: str, fingerprint: str, arithmetic: Arithmetic) -> Translator:
    """Return the generator that translates back what the bundle at `url` translates in this direction.

    Raises ValueError where its weights have another `fingerprint`, and UserError where the bundle has none.
    """
    from pipeline.models.bundles import describe, open_bundle
    from pipeline.models.translator import Translator

    other = _opposite(direction)
    described = describe(url)
    if not isinstance(described, Description) or described.files[other].sha256 != fingerprint:
        raise ValueError(f"{url}: {other} is another network than that which the job was planned with")
    bundle = open_bundle(url, direction=other)
    back = Translator.of(bundle.generator(other), bundle.generator_configs[other], arithmetic)
    return replace(back, counts_rows=False)  # the rows are those of the way there


class Judged(NamedTuple):
    """What translations are judged by in the same pass."""

    scores: Mapping[str, str] = {}
    """Scores, which become columns, each with the fingerprint of the network that gives it."""
    keep_if: str = ""
    """Condition on them; rows for which it is not true are skipped."""
    agreement_model: str = ""
    """URL of the program that gives the score agreement."""


NOT_JUDGED = Judged()


class Judges:
    """Networks that score translations, each image by itself."""

    def __init__(
        self,
        url: str,
        loaded: Bundle | LoadedProgram,
        direction: str,
        scores: Mapping[str, str],
        arithmetic: Arithmetic,
        agreement_model: str = "",
    ) -> None:
        """Prepare what the `scores` need; they have the fingerprints of the networks.

        `loaded` is the bundle at `url`, with the discriminator of this direction where that scores; the way back and
        the `agreement_model`, a program's URL, are loaded here. Raises ValueError where a network is another one.
        """
        from pipeline.models.bundles import describe

        self._names, self._arithmetic = list(scores), arithmetic
        self._agreement: Callable[[np.ndarray, np.ndarray], float] | None = None
        if "agreement" in scores:
            from pipeline.scores.agreement import Agreement

            self._agreement = Agreement(agreement_model, scores["agreement"], arithmetic)
        self._realism: _Realism | None = None
        self._back: Translator | None = None
        if not BY_ITS_NETWORKS & scores.keys():
            return
        described = describe(url, discriminators=True)
        assert isinstance(described, Description)
        for name, network in judges(described, direction, list(scores)).items():
            if described.files[network].sha256 != scores[name]:
                raise ValueError(f"{url}: {network} is another network than that which the job was planned with")
        if "realism" in scores:
            self._realism = _Realism(cast("Bundle", loaded), direction, arithmetic)
        if "cycle_l1" in scores:
            self._back = way_back(url, direction, scores["cycle_l1"], arithmetic)

    def __call__(self, frames: Sequence[np.ndarray], translations: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the scores by name, float64 [N], for `frames` ([H, W, channels] each) and the translations of some.

        A frame without a translation has none (nan), nor has one that is too small for the discriminator, or whose way
        back fails. Raises MemoryError like a translator.
        """
        scores = {name: np.full(len(frames), np.nan) for name in self._names}
        if self._realism:
            for i, translation in translations.items():
                scores["realism"][i] = self._realism(frames[i], translation)
                made_progress(0)
        if self._agreement:
            for i, translation in translations.items():
                scores["agreement"][i] = self._agreement(frames[i], translation)
                made_progress(0)
        if self._back:
            for positions in _few_at_once(translations):
                back, _ = self._back([translations[i] for i in positions])
                for at, image in back.items():
                    scores["cycle_l1"][positions[at]] = l1(frames[positions[at]], image)
                made_progress(0)
        return scores


def _few_at_once(translations: Mapping[int, np.ndarray]) -> Iterator[list[int]]:
    """Yield the positions of translations, of some megabytes at a time."""
    positions, held = list[int](), 0
    for i, translation in translations.items():
        if positions and held + translation.nbytes > _AT_ONCE_BYTES:
            yield positions
            positions, held = [], 0
        positions.append(i)
        held += translation.nbytes
    if positions:
        yield positions


class _Realism:
    """Discriminator of one direction."""

    def __init__(self, bundle: Bundle, direction: str, arithmetic: Arithmetic) -> None:
        config, network = bundle.discriminator_configs[direction], bundle.discriminators[direction]
        (layers,) = network.eval().requires_grad_(False).to(arithmetic.device).children()
        self._layers, self._arithmetic, self._least = list(layers.children()), arithmetic, config.least_size
        self._sees_both = config.in_channels > bundle.generator_configs[direction].out_channels
        loss = (bundle.provenance.get("recipe") or {}).get("gan_loss", _LOSS_OF.get(bundle.objective))
        self._is_probability = loss == "vanilla"

    def __call__(self, frame: np.ndarray, translation: np.ndarray) -> float:
        """Return the mean verdict; nan for an image that is too small."""
        from pipeline.models.translator import by_itself

        if min(translation.shape[:2]) < self._least:
            return float("nan")
        with by_itself(self._arithmetic):
            return self._mean([frame, translation] if self._sees_both else [translation])

    def _mean(self, seen: Sequence[np.ndarray]) -> float:
        """Return the mean verdict on images that are seen together, in tiles where the generator takes tiles."""
        import torch

        from gan_models.pixels import from_pixels
        from gan_models.tiling import Rows, strips, tiled_layers

        def read(start: int, stop: int) -> Tensor:
            # A copy, since memory that comes from another process cannot be written, which torch warns of.
            parts = [torch.from_numpy(each[start:stop].copy()).permute(2, 0, 1)[None] for each in seen]
            if len({part.dtype for part in parts}) > 1:
                return torch.cat([from_pixels(part.to(self._arithmetic.device)) for part in parts], 1)
            return from_pixels(torch.cat(parts, 1).to(self._arithmetic.device))

        size = (seen[0].shape[0], seen[0].shape[1])
        count = self._arithmetic.tiles_of(size) if self._arithmetic.is_tiled(size) else 1
        with torch.inference_mode():
            made = tiled_layers(self._layers, Rows(size[0], read), count, lambda: made_progress(0))
            total, values = 0.0, 0
            for start, stop in strips(made.height, count):
                verdicts = made.read(start, stop).double()
                total += float((verdicts.sigmoid() if self._is_probability else verdicts).sum())
                values += verdicts.numel()
        return total / values
