"""Measure pictures that go through a generator in tiles, against the same ones that go through it whole."""

from __future__ import annotations

import functools
import json
import math
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from gan_models import GeneratorConfig, build_generator
from gan_models.tiling import strips
from pipeline.benchmark.basis.checks import Checked, Checking, Keep, Row, most_mb, run_checks, run_process
from pipeline.benchmark.basis.config import TilesBenchmarkConfig
from pipeline.benchmark.basis.limits import machine
from pipeline.cluster import hardware
from pipeline.models.arithmetic import Arithmetic, exact
from pipeline.models.translator import Translator
from pipeline.terminal import print_line
from pipeline.translation.arithmetic import NETWORK_BYTES

_MOST_TIMES, _LEAST_DB = 2.0, 60.0
_TILES = 16
"""Part of the picture that a tile has, where tiles and the whole are compared: of 1024² it has as many as 256²."""
_AT_BORDERS = 4
"""Rows on both sides of a border between tiles."""
_QUICK = 16
"""Number by which sides are divided where nothing is measured."""
_INNER = 4
"""Copies of an inner layer's values that are held at once: the block's input, mirrored, what is made of it, output."""
_PROCESS_MB = 600.0


class _Case(NamedTuple):
    what: str
    network: GeneratorConfig
    side: int
    fits: bool = True
    """Truth for a picture that can go through the network whole."""


_RESNET = GeneratorConfig(kind="resnet", width=64, depth=9, norm="instance")
_NARROW = GeneratorConfig(kind="resnet", width=4, depth=1, norm="instance")
_CASES = {
    "resnet": _Case("ResNet, 9 blocks", _RESNET, 1024),
    "unet": _Case("U-Net 256", GeneratorConfig(), 1024),
    "narrow": _Case("ResNet of width 4, 1 block", _NARROW, 4096),
    "large": _Case("ResNet of width 4, 1 block", _NARROW, 16_384, fits=False),
}


def measure(config: TilesBenchmarkConfig, keep: Keep = lambda checked: None) -> Checked:
    """Translate each picture in processes of its own, whole and in tiles; call `keep` after each, with all so far."""
    about = machine(hardware.default_device())
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        checks: dict[str, Checking] = {
            name: functools.partial(_check, name, config, Path(scratch)) for name in config.pictures
        }
        return run_checks(config, about, checks, keep)


def _check(
    name: str, config: TilesBenchmarkConfig, scratch: Path, ends: float
) -> tuple[Sequence[Row], Mapping[str, Any]]:
    case, side = _CASES[name], _CASES[name].side // (_QUICK if config.quick else 1)
    what = f"{case.what}, {side:,}²"
    numbers = {
        how: json.loads(
            run_process([sys.executable, "-m", "pipeline.benchmark.tiles", name, how, str(side), str(scratch)], ends)
        )
        for how in (["whole", "tiled"] if case.fits else ["tiled"])
    }
    tiled = numbers["tiled"]
    if not case.fits:
        most = _PROCESS_MB + _held_bytes(case.network, side) / 1e6
        return [
            Row(f"{what}: seconds", f"{tiled['seconds']:.1f} in {tiled['tiles']} tiles"),
            Row(f"{what}: memory, MB", f"{tiled['mb']:,.0f}", f"{most:,.0f} at most", tiled["mb"] <= most),
        ], numbers
    found, expected = (np.load(scratch / f"{name}-{how}.npy").astype(np.int16) for how in ("tiled", "whole"))
    error = np.square(found - expected, dtype=np.float64)
    decibel = 10 * math.log10(255**2 / max(error.mean(), 1e-12))
    at = [
        row
        for start, _ in list(strips(side, tiled["tiles"]))[1:]
        for row in range(start - _AT_BORDERS, start + _AT_BORDERS)
    ]
    borders, ratio = error[at].mean() / max(error.mean(), 1e-12), tiled["seconds"] / numbers["whole"]["seconds"]
    numbers |= {"decibel": decibel, "borders": borders}
    return [
        Row(f"{what}: time in tiles / whole", f"{ratio:.2f}", f"{_MOST_TIMES:g} at most", ratio <= _MOST_TIMES),
        Row(f"{what}: PSNR, dB", f"{decibel:.1f}", f"{_LEAST_DB:g} at least", decibel >= _LEAST_DB),
        Row(f"{what}: squared error at borders / everywhere", f"{borders:.2f}"),
        Row(f"{what}: memory in tiles, whole, MB", f"{tiled['mb']:,.0f}, {numbers['whole']['mb']:,.0f}"),
    ], numbers


def _held_bytes(network: GeneratorConfig, side: int) -> int:
    """Return the bytes that tiles need: the picture, its translation, a sixteenth for inner layers, and a tile."""
    inner = _INNER * 4 * network.width * side**2 // 16
    return 2 * 3 * side**2 + 4 * (inner + network.values_held * _tile_pixels(network) // 4)


def _tile_pixels(network: GeneratorConfig) -> int:
    return NETWORK_BYTES // 4 // network.values_held


def _translate(name: str, how: str, side: int, scratch: Path) -> dict[str, Any]:
    """Translate the picture of a case, twice where it is small; return seconds, the most memory, and the tiles."""
    case, device = _CASES[name], hardware.default_device()
    arithmetic = exact(device, batch=1)
    if how == "tiled":
        # What is not measured is small, and would else go whole.
        most = side**2 * 4 // _TILES if case.fits or side < case.side else _tile_pixels(case.network)
        arithmetic = Arithmetic(**{**arithmetic.record(), "tile_pixels": most})
    network = build_generator(case.network, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    translator = Translator.of(network, case.network, arithmetic)
    small = np.random.default_rng(0).integers(0, 256, (min(side, 1024), min(side, 1024), 3), np.uint8)
    picture = np.tile(small, (-(-side // len(small)), -(-side // len(small)), 1))[:side, :side]
    seconds = []
    for _ in range(2 if case.fits else 1):
        began = time.perf_counter()
        made, faults = translator([picture])
        seconds.append(time.perf_counter() - began)
        if faults:
            raise RuntimeError(faults[0])
    if case.fits:
        np.save(scratch / f"{name}-{how}.npy", made[0])
    mb = torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else most_mb()
    return {"seconds": min(seconds), "mb": mb, "tiles": arithmetic.tiles_of((side, side))}


if __name__ == "__main__":
    _name, _how, _side, _scratch = sys.argv[1:]
    print_line(json.dumps(_translate(_name, _how, int(_side), Path(_scratch))))
