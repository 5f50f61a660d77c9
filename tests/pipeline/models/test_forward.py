"""Pictures above a number of pixels go through the network in tiles, and come out as those that go through it whole."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from gan_models import GeneratorConfig
from gan_models.build import build_network
from pipeline.images import PixelType
from pipeline.models import forward, native
from pipeline.models.arithmetic import Arithmetic
from pipeline.models.ends import with_fast_ends
from pipeline.models.translator import Translator

WHOLE = Arithmetic(device="cpu", precision="fp32", threads=None, trunk="direct", batch=1)
TILED = dataclasses.replace(WHOLE, tile_pixels=32 * 32)
RESNET = GeneratorConfig(kind="resnet", width=16, depth=1, norm="instance")
UNET = GeneratorConfig(kind="unet", width=4, depth=4, norm="batch")
SIZES = [(200, 40), (8, 300), (1, 600), (600, 1), (97, 51)]


def frames(*sizes: tuple[int, int], channels: int = 3, dtype: type[np.unsignedinteger] = np.uint8) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, np.iinfo(dtype).max, (*size, channels), dtype) for size in sizes]


def translator(config: GeneratorConfig, arithmetic: Arithmetic) -> Translator:
    torch.manual_seed(0)
    network = build_network(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return Translator.of(network, config, arithmetic)


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list to which the number of tiles of each picture is added."""
    counts, original = list[int](), forward.tiled
    monkeypatch.setattr(forward, "tiled", lambda *given: counts.append(given[2]) or original(*given))
    return counts


@pytest.mark.parametrize(
    ("config", "trunk", "precision"),
    [
        (UNET, "direct", "fp32"),
        (UNET, "direct", "bf16"),
        (RESNET, "direct", "fp32"),
        pytest.param(RESNET, "direct", "bf16", marks=pytest.mark.long),
        (RESNET, "winograd", "fp32"),
    ],
)
def test_tiles_give_the_pixels_of_the_whole(
    config: GeneratorConfig, trunk: str, precision: str, tiles: list[int]
) -> None:
    pictures, places = frames(*SIZES), [np.zeros((*size, 3), np.uint8) for size in SIZES]
    whole, tiled = (
        translator(config, dataclasses.replace(each, trunk=trunk, precision=precision)) for each in (WHOLE, TILED)
    )
    expected, _ = whole(pictures)
    found, faults = tiled(pictures, into=places)
    assert not faults
    assert len(tiles) == len(SIZES)
    for i, place in enumerate(places):
        assert found[i] is place
        difference = np.abs(place.astype(int) - expected[i])
        # bf16 rounds other sums to another of its 8 bits, which the layers behind it enlarge.
        assert difference.max() <= 1 if precision == "fp32" else difference.mean() < 2
    again, _ = tiled(pictures)
    assert all((again[i] == places[i]).all() for i in range(len(SIZES)))


def test_the_trunk_in_c_takes_the_inner_part(tiles: list[int]) -> None:
    if not native.is_available():
        pytest.skip("this machine has no C compiler")
    pictures = frames((200, 40))
    whole, tiled = (translator(RESNET, dataclasses.replace(each, trunk="winograd_c")) for each in (WHOLE, TILED))
    assert np.abs(whole.all(pictures).astype(int) - tiled.all(pictures)).max() <= 1
    assert tiles == [7]


@pytest.mark.parametrize("width", [8, 64])
def test_the_ends_that_fit_a_gpu_are_tiled_alike(width: int, tiles: list[int]) -> None:
    """They are prepared for a GPU alone, and run here as well."""
    found = translator(dataclasses.replace(RESNET, width=width), WHOLE)
    whole = dataclasses.replace(found, network=with_fast_ends(found.network).to(memory_format=torch.channels_last))
    pictures = frames((200, 40))
    tiled = dataclasses.replace(whole, arithmetic=TILED)
    assert np.abs(whole.all(pictures).astype(int) - tiled.all(pictures)).max() <= 1
    assert tiles == [7]


def test_sixteen_bits_and_other_channels_are_kept(tiles: list[int]) -> None:
    pixels = PixelType(5, 16)
    config = dataclasses.replace(RESNET, in_channels=5, out_channels=5)
    whole, tiled = (translator(config, each) for each in (WHOLE, TILED))
    whole, tiled = (dataclasses.replace(each, takes=pixels, gives=pixels) for each in (whole, tiled))
    pictures = frames((200, 40), channels=5, dtype=np.uint16)
    expected, found = whole.all(pictures), tiled.all(pictures)
    assert found.dtype == np.uint16
    assert np.abs(expected.astype(int) - found).max() < 10
    assert tiles == [7]


def test_the_size_alone_decides_and_each_picture_goes_by_itself(tiles: list[int]) -> None:
    pictures = frames((32, 32), (32, 36), (32, 36), (32, 32), (40, 30))
    made, faults = translator(RESNET, dataclasses.replace(TILED, batch=4))(pictures)
    assert (sorted(made), faults) == (list(range(5)), {})
    assert tiles == [1, 1, 2]


def test_a_picture_without_finite_numbers_costs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The values of one strip are harmed on their way back."""
    harmed, original = list[int](), forward.tiled

    def tiled(*given: object) -> forward.Rows:
        rows = original(*given)  # type: ignore[arg-type]
        if harmed:
            return rows
        harmed.append(1)
        return forward.Rows(rows.height, lambda start, stop: rows.read(start, stop) / (start != 0))

    monkeypatch.setattr(forward, "tiled", tiled)
    made, faults = translator(RESNET, TILED)(frames((100, 40), (100, 40)))
    assert list(made) == [1]
    assert "no finite numbers" in faults[0]


def test_sizes_that_are_compiled_go_whole_and_networks_that_nobody_can_cut() -> None:
    assert TILED.is_tiled((64, 64))
    assert not dataclasses.replace(TILED, compiled=((64, 64),)).is_tiled((64, 64))
    assert not Translator(torch.nn.Identity(), TILED).is_tiled((64, 64, 3))
    assert Translator(torch.nn.Identity(), dataclasses.replace(TILED, batch=4)).batch_of((64, 64, 3)) == 4
