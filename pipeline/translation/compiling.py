"""Choice of the image sizes for which a model is compiled: where what it saves exceeds what it costs."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import nn

from gan_models import GeneratorConfig
from gan_models.pixels import padded_size
from pipeline.errors import UserError
from pipeline.models import measuring
from pipeline.models.arithmetic import TIE, Arithmetic, Size
from pipeline.models.compiled import CannotCompileError, Gain, Package
from pipeline.models.forward import prepare
from pipeline.translation.options import Compile
from pipeline.translation.sizing import Planned

log = logging.getLogger("transdomain")

MOST_SIZES = 4
"""Image sizes for which a model is compiled at most."""
EXPECTED = {"cpu": 0.05, "cuda": 0.7}
"""Share of the time that compiled code is expected to save, before anybody has compiled it here. On a CPU it saved 0.07
to 0.11 where all threads translated each image together, in eager code, too."""
COMPILE_S = {"cpu": 60.0, "cuda": 20.0}
"""Seconds that a compilation is expected to take."""
_AGREES = {"fp32": 0.02, "bf16": 0.1}
"""Difference between compiled and eager code, as a share of the output's spread, that is rounding. In bf16 the same
network differed from fp32 by 0.023."""


def planned_sizes(planned: Planned, config: GeneratorConfig, unknown: int) -> dict[Size, float]:
    """Return the most common sizes as the network takes them, each with its share of the images, greatest first.

    Where nothing is known of the sizes, it is that of the training, `unknown`, with a share of 0.
    """
    counted = Counter(padded(size, config) for size in planned.sizes)
    if not counted:
        return {padded((unknown, unknown), config): 0.0}
    return {size: count / counted.total() for size, count in counted.most_common(MOST_SIZES)}


def padded(size: Size, config: GeneratorConfig) -> Size:
    """Return the size that an image of this size has when the network gets it."""
    return padded_size(size, config.size_multiple, config.least_size)


def pays(seconds: float, device: str) -> bool:
    """Return True where compiled code may save more than it costs, of so many seconds that one `device` computes."""
    return seconds * EXPECTED[device] > COMPILE_S[device]


def with_compiled(
    network: nn.Module,
    config: GeneratorConfig,
    arithmetic: Arithmetic,
    wanted: Compile,
    shares: dict[Size, float],
    seconds_of: Callable[[Size], float],
) -> tuple[Arithmetic, Gain | None]:
    """Return `arithmetic` with the sizes for which `network` is compiled, and the gain at the most common of them.

    `seconds_of` says how long one device computes all images of a size. What the cache has is used, if it was faster
    when it was made. What it has not is compiled where that pays, and then timed. Raises UserError where `wanted` is
    `always` and the compiler fails, or all sizes go in tiles; otherwise the log says so.
    """
    if arithmetic.trunk == "winograd_c":
        return arithmetic, None  # compiled as it is, for any size
    found = dict[Size, Gain]()
    eager = prepare(network, arithmetic)
    for size, share in shares.items():
        if arithmetic.is_tiled(size):
            continue
        package = Package.of(eager, (arithmetic.batch_of(size), config.in_channels, *size), arithmetic)
        gain = package.gain
        try:
            if gain is None and (wanted == "always" or pays(share * seconds_of(size), arithmetic.device)):
                gain = _timed(package, network, config, arithmetic, size)
        except CannotCompileError as error:
            if wanted == "always":
                raise UserError(f"{error}; leave out --compile always") from error
            log.warning("%s; going on without", error)
        if gain and (wanted == "always" or gain.ratio > 1 + TIE):
            found[size] = gain
    if wanted == "always" and not found:
        raise UserError("all pictures go through the model in tiles, without compiled code; leave out --compile always")
    return replace(arithmetic, compiled=tuple(found)), next(iter(found.values()), None)


def _timed(package: Package, network: nn.Module, config: GeneratorConfig, arithmetic: Arithmetic, size: Size) -> Gain:
    """Compile, time compiled and eager code beside each other, and keep the figures.

    Raises CannotCompileError where they do not give the same images.
    """
    began = time.monotonic()
    package.load()
    compile_s = time.monotonic() - began
    forms = {"eager": arithmetic, "compiled": replace(arithmetic, compiled=(size,))}
    images = arithmetic.at_once(size)
    passes = {name: measuring.noise_pass(network, config, each, size, images) for name, each in forms.items()}
    _compare(passes["eager"](), passes["compiled"](), arithmetic.precision)
    # The time of threads that wait for each other counts, too: eager code may have an image for each.
    seconds = measuring.least_seconds(passes, time.perf_counter)
    gain = Gain(eager_s=seconds["eager"], compiled_s=seconds["compiled"], compile_s=compile_s)
    package.keep(gain)
    return gain


def _compare(eager: np.ndarray, compiled: np.ndarray, precision: str) -> None:
    """Raise CannotCompileError where translations differ by more than rounding."""
    expected, found = eager.astype(np.float64), compiled.astype(np.float64)
    difference = np.sqrt(np.square(found - expected).mean()) / max(expected.std(), 1.0)
    if difference > _AGREES[precision]:
        raise CannotCompileError(f"compiled code gives other images than eager code: they differ by {difference:.2f}")
