"""Networks of the bundle that made the translations: the way back, the identity, and a generator without training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch

from gan_models import GeneratorConfig, build_generator
from pipeline import images
from pipeline.cluster.hardware import default_device
from pipeline.errors import one_line
from pipeline.models.arithmetic import exact
from pipeline.models.bundles import open_bundle
from pipeline.models.translator import Translator
from pipeline.scores.judges import Judges, way_back
from pipeline.scores.metrics import alike, l1

_NOTHING = float("nan")


class Networks:
    """Generators of one bundle, in fp32, each image by itself."""

    def __init__(
        self, url: str, direction: str, *, cycle: str, identity: bool, untrained: bool, device: str = "cpu"
    ) -> None:
        """Load those of the bundle at `url` that are needed. Raises ValueError where a network is another one.

        `cycle` is the fingerprint of the network that translates back, empty where that is not measured.
        """
        arithmetic = exact(device, batch=1)
        arithmetic = replace(arithmetic, threads=1) if device == "cpu" else arithmetic
        bundle = open_bundle(url, direction=direction)
        architecture = bundle.generator_configs[direction]
        self._takes = images.PixelType(architecture.in_channels, architecture.in_bits)
        self._judges: Judges | None = None
        if cycle:
            self._judges = Judges(url, bundle, direction, {"cycle_l1": cycle}, arithmetic)
        self._generator: Translator | None = None
        if identity:
            self._generator = _uncounted(Translator.of(bundle.generator(direction), architecture, arithmetic))
        self._untrained: Translator | None = None
        if untrained and isinstance(architecture, GeneratorConfig):
            fresh = build_generator(architecture, generator=torch.Generator().manual_seed(0))
            self._untrained = _uncounted(Translator.of(fresh, architecture, arithmetic))

    def untrained(self, source: np.ndarray) -> np.ndarray:
        """Return what the generator makes of an image before any training. Raises BadImage for another type."""
        assert self._untrained
        return self._untrained.all([self._as_taken(source)])[0]

    def scores(
        self, translation: np.ndarray, source: np.ndarray | None, target: np.ndarray | None
    ) -> Mapping[str, float]:
        """Return cycle and identity error, where they are measured; nan where images are missing or too small."""
        found = {}
        if self._judges:
            found["cycle_l1"] = _NOTHING
            if source is not None:
                frame = images.resize(self._as_taken(source), translation.shape[1], translation.shape[0])
                found["cycle_l1"] = float(self._judges([frame], {0: translation})["cycle_l1"][0])
        if self._generator:
            found["identity_l1"] = _NOTHING
            if target is not None and images.PixelType.of(target).becomes(self._takes):
                made, _ = self._generator([self._as_taken(target)])
                found["identity_l1"] = l1(*alike(made[0], target)) if 0 in made else _NOTHING
        return found

    def _as_taken(self, pixels: np.ndarray) -> np.ndarray:
        """Return an image as the type that the generator takes. Raises BadImage where it cannot be that."""
        found = images.PixelType.of(pixels)
        if not found.becomes(self._takes):
            raise images.BadImage("unsupported type", f"is {found}, and the generator takes {self._takes}")
        return np.repeat(pixels, 3, 2) if found != self._takes else pixels


def cycles(url: str, direction: str, fingerprint: str, device: str) -> Callable[[np.ndarray], np.ndarray | str]:
    """Return a function that translates a translation back as `scores` does, or says why that fails.

    The images are to be looked at, so all threads of a CPU compute each; where there is no such `device`, a CPU does.
    Raises UserError where the bundle at `url` has no way back, and ValueError where that has another `fingerprint`.
    """
    back = way_back(url, direction, fingerprint, exact(device if device == default_device() else "cpu", batch=1))

    def cycle(translation: np.ndarray) -> np.ndarray | str:
        try:
            made, faults = back([translation])
        except (ArithmeticError, MemoryError, TypeError) as error:
            return f"not made: {one_line(error)}"
        return made[0] if 0 in made else f"not made: {faults[0]}"

    return cycle


def _uncounted(translator: Translator) -> Translator:
    """Return a translator whose rows do not count as done: they are those that are scored."""
    return replace(translator, counts_rows=False)
