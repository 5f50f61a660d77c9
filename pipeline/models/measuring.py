"""Choice of the fastest form of a network on this machine: those that its hardware computes, timed one beside another.

What a CPU names among its features says little about its speed: there are some whose bf16 takes twice as long as their
fp32, and some on which it takes half as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import nn

from pipeline.cluster import hardware
from pipeline.models import native
from pipeline.models.arithmetic import Arithmetic, Figures, Form, Size, Trunk
from pipeline.models.bundles import Architecture
from pipeline.models.translator import Translator

PASS_S = 1.0
"""Longest pass in the simplest form, in seconds; where one takes longer, smaller images are measured."""
_SMALL_S = 0.01
"""Seconds an image on one core, below which no choice is made on a CPU: decoding and encoding take as long."""
_CALLS = 3
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_DENSE_SIDE = {"cpu": 1024, "cuda": 8192}

K = TypeVar("K")

Clock = Callable[[], float]


class Pass(NamedTuple):
    """Pass of images through a network, to its end."""

    run: Callable[[], object]
    """Function that returns once the device has finished."""
    images: int
    """Number of images that it translates or trains with."""


def noise_pass(
    generator: nn.Module, config: Architecture, arithmetic: Arithmetic, size: Size, images: int
) -> Callable[[], np.ndarray]:
    """Return a function that translates so many images of noise, to be timed."""
    translator = Translator.of(generator, config, arithmetic)
    takes, random = translator.takes, np.random.default_rng(0)
    shape = (images, *size, takes.channels)
    frames = list(random.integers(0, takes.peak, shape, takes.dtype, endpoint=True))
    return lambda: translator.all(frames)


def forms(
    device: str,
    *,
    kind: str,
    precision: str = "auto",
    trunk: Literal["auto"] | Trunk = "auto",
    with_c: bool = True,
) -> list[Form]:
    """Return the forms in which `device` computes a `kind` of generator in hardware, the simplest first.

    A program has the one that it was made in, which is called fp32.

    `precision` and `trunk` leave those that are asked for. fp16 has to be asked for, and needs a GPU: its range is too
    small for gradients that are not scaled. Winograd's trunk is for a resnet in fp32 on a CPU: a quarter of the
    multiplications pays only where they are expensive, and the transforms need fp32. Its form in C takes the place of
    the other where there is a C compiler, unless `with_c` is False: it does not train. Raises ValueError where none is
    left.
    """
    supported = hardware.supported_precisions(device) if kind != "program" else ("fp32",)
    precisions = supported if precision == "auto" else (precision,)
    if precision not in ("auto", *supported) and (precision, device) != ("fp16", "cuda"):
        raise ValueError(
            f"precision {precision} is not in the hardware of this {device} ({hardware.describe(device)}); "
            f"use {' or '.join(supported)}"
        )
    everywhere: Sequence[Trunk] = ("direct",)
    found = [
        Form(precision=each, trunk=way)
        for each in precisions
        for way in (_trunks(trunk, with_c) if (kind, device, each) == ("resnet", "cpu", "fp32") else everywhere)
        if trunk in ("auto", way)
    ]
    if not found and trunk == "winograd_c" and (kind, device) == ("resnet", "cpu") and "fp32" in precisions:
        raise ValueError("trunk winograd_c needs a C compiler (gcc), which this machine has not; set trunk to auto")
    if not found:
        raise ValueError(
            f"trunk {trunk} is for a resnet on a CPU in fp32, and this is a {kind} on {device} in "
            f"{' or '.join(precisions)}; set trunk to auto{' or precision to fp32' if device == 'cpu' else ''}"
        )
    return found


def _trunks(asked: Literal["auto"] | Trunk, with_c: bool) -> Sequence[Trunk]:
    """Return the trunks that this machine has, without `winograd` where it is not asked for and C is there."""
    if asked == "direct" or asked == "winograd":
        return [asked]
    if with_c and native.is_available():
        return "direct", "winograd_c"
    return "direct", "winograd"


def all_forms(device: str, kind: str, *, with_c: bool = True) -> list[Form]:
    """Return every form that `device` has, each eager and then compiled; that in C is compiled as it is."""
    found = forms(device, kind=kind, with_c=False)
    pairs = [replace(form, compile=compiled) for form in found for compiled in (False, True)]
    in_c = [form for form in forms(device, kind=kind) if form.trunk == "winograd_c"] if with_c else []
    return [*pairs, *in_c]


class Clocks(NamedTuple):
    """Ways to time a device."""

    all_threads: Clock
    """Clock for passes with all threads."""
    one_thread: Clock
    """Clock for passes with one thread, which other programs on the machine hardly disturb."""
    threads: int | None
    """Number of threads of a CPU's passes; None where the device is a GPU."""
    small_s: float
    """Seconds an image with one thread in the simplest form, below which no other form is tried."""


def clocks_of(device: str, threads: int | None) -> Clocks:
    """Return the clocks to time `device` with.

    On a CPU they count this process's CPU time over its threads, so that what else the machine does is left out.
    """
    if device == "cuda" or threads is None:
        return Clocks(time.perf_counter, time.perf_counter, None, 0.0)
    return Clocks(lambda: time.process_time() / threads, time.thread_time, threads, _SMALL_S)


def measure(
    candidates: Sequence[Form], make: Callable[[Form, int, int | None], Pass], sides: Sequence[int], clocks: Clocks
) -> dict[Form, float]:
    """Return the seconds an image of `sides[0]` in each candidate.

    `make(form, side, threads)` prepares passes of square images for so many threads. `sides` go from the wanted one
    down to the smallest that will do. Where a pass of the wanted side would take more than `PASS_S`, the largest side
    that takes less is measured instead, and the figures are scaled by the number of pixels, so all takes a few seconds.
    Where an image takes less than `clocks.small_s` in the simplest form with one thread, no other is tried. The least
    of some passes counts, since what else a machine does only ever adds to them.
    """
    wanted, smallest, simplest, one = sides[0], sides[-1], candidates[0], clocks.threads and 1

    def image_s(forms: Sequence[Form], side: int, threads: int | None, clock: Clock) -> dict[Form, float]:
        with hardware.torch_threads(threads):
            passes = {form: make(form, side, threads) for form in forms}
            seconds = least_seconds({form: each.run for form, each in passes.items()}, clock)
            return {form: seconds[form] / passes[form].images for form in forms}

    def alone_s(side: int) -> float:
        return image_s([simplest], side, one, clocks.one_thread)[simplest]

    quick_s = alone_s(smallest)
    # A small network's time is not in its pixels, so it is not scaled by their number.
    if quick_s < clocks.small_s and (seconds := alone_s(wanted)) < clocks.small_s:
        return {simplest: seconds}
    pass_s = quick_s * make(simplest, smallest, clocks.threads).images / (clocks.threads or 1)
    side = next((s for s in sides if pass_s * (s / smallest) ** 2 <= PASS_S), smallest)
    found = image_s(candidates, side, clocks.threads, clocks.all_threads)
    return {form: seconds * (wanted / side) ** 2 for form, seconds in found.items()}


class DenseProduct:
    """Product of two square matrices of noise, made once, whose rate is the limit of a device in one precision."""

    def __init__(self, device: str, precision: str, side: int | None = None) -> None:
        """Make matrices of so many rows and columns; by default as few as show the limit of `device`."""
        side = side or _DENSE_SIDE[device]
        self.flop = 2 * side**3
        """Multiplications and additions of one product."""
        self._left, self._right = torch.randn(2, side, side, dtype=_DTYPES[precision], device=device)
        self._is_cuda = device == "cuda"

    def __call__(self) -> None:
        """Multiply once, to the end."""
        torch.mm(self._left, self._right)
        if self._is_cuda:
            torch.cuda.synchronize()


def dense_rate(device: str, precision: str, threads: int | None) -> float:
    """Return the FLOP/s of dense matrix products on `device`, with so many threads on a CPU."""
    product = DenseProduct(device, precision)
    with hardware.torch_threads(threads):
        seconds = least_seconds({precision: product}, clocks_of(device, threads).all_threads)
    return product.flop / max(seconds[precision], 1e-9)


def figures(seconds: dict[Form, float], side: int, device: str) -> Figures:
    """Return measured seconds as the record holds them."""
    return Figures(
        machine=hardware.describe(device), side=side, seconds={str(form): round(s, 6) for form, s in seconds.items()}
    )


def sides(wanted: int, multiple: int, least: int) -> list[int]:
    """Return the sides to measure with, in pixels, as the network takes them: the wanted one, half and a quarter."""
    smaller = (max(least, side // multiple * multiple) for side in (wanted, wanted // 2, wanted // 4))
    return sorted(set(smaller), reverse=True)


def least_seconds(passes: Mapping[K, Callable[[], object]], clock: Clock) -> dict[K, float]:
    """Return the least seconds of each pass, all taken in turn, after one that warms up."""
    for each in passes.values():
        each()
    found = dict.fromkeys(passes, float("inf"))
    for _ in range(_CALLS):
        for form, each in passes.items():
            started = clock()
            each()
            found[form] = min(found[form], clock() - started)
    return found
