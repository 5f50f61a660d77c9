"""Generators in tiles give what they give for the whole picture, at the borders of tiles as elsewhere."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from gan_models import GeneratorConfig, build_generator, translation_mode
from gan_models.tiling import Rows, can_tile, strips, tiled


def generator(seed: int = 0, **config: object) -> nn.Module:
    torch.manual_seed(seed)
    network = build_generator(GeneratorConfig(**config))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return translation_mode(network)


def in_tiles(network: nn.Module, image_NCHW: Tensor, count: int) -> Tensor:
    rows = Rows(image_NCHW.shape[2], lambda start, stop: image_NCHW[:, :, start:stop])
    with torch.inference_mode():
        made = tiled(network, rows, count)
        return torch.cat([made.read(start, stop) for start, stop in strips(made.height, count)], 2)


KINDS = {"resnet": {"kind": "resnet", "depth": 2}, "unet": {"kind": "unet", "depth": 4}}


@pytest.mark.parametrize("norm", ["batch", "layer", "instance", "group", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_tiles_gives_the_whole_picture(kind: str, norm: str) -> None:
    network = generator(**KINDS[kind], width=8, norm=norm, groups=4, dropout=True)
    image = torch.rand(1, 3, 80, 48) * 2 - 1
    with torch.inference_mode():
        whole = network(image)
    for count in (1, 2, 3, 7, 20, 80, 200):
        torch.testing.assert_close(in_tiles(network, image, count), whole, rtol=0, atol=2e-5)


@pytest.mark.parametrize("depth", [2, 3])
def test_a_u_net_without_deep_levels_is_tiled(depth: int) -> None:
    network, image = generator(kind="unet", depth=depth, width=4, norm="batch"), torch.rand(1, 3, 24, 16) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(in_tiles(network, image, 5), network(image), rtol=0, atol=2e-5)


def test_running_statistics_are_taken_where_the_network_has_them() -> None:
    torch.manual_seed(0)
    network = build_generator(GeneratorConfig(kind="unet", depth=3, width=4, norm="batch"))
    with torch.no_grad():
        network(torch.randn(4, 3, 32, 32))
    running = translation_mode(network, statistics="running")
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(in_tiles(running, image, 4), running(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_leave_no_seam(kind: str) -> None:
    """1024² in tiles of 256² pixels: at least 60 dB, and no more error at the borders than elsewhere."""
    network = generator(**KINDS[kind], width=8, norm="instance")
    coarse = torch.rand(1, 3, 32, 32) * 2 - 1  # what is even where no tile has the same statistics as another
    image = nn.functional.interpolate(coarse, (1024, 1024), mode="bicubic").clamp(-1, 1)
    with torch.inference_mode():
        error = (in_tiles(network, image, 16) - network(image)).double()
    assert 10 * math.log10(4 / float(error.square().mean())) > 60
    borders = [row for start, _ in itertools.islice(strips(1024, 16), 1, None) for row in range(start - 4, start + 4)]
    of_rows = error.square().mean((0, 1, 3)).sqrt()
    print(f"{kind}: RMS at the borders {of_rows[borders].mean():.2e}, elsewhere {of_rows.mean():.2e}")
    assert of_rows[borders].mean() < 1.2 * of_rows.mean() + 1e-9


def test_what_is_read_of_the_picture_is_little_more_than_a_strip() -> None:
    network, longest = generator(kind="resnet", depth=1, width=4, norm="instance"), 0
    image = torch.rand(1, 3, 256, 16)

    def read(start: int, stop: int) -> Tensor:
        nonlocal longest
        longest = max(longest, stop - start)
        return image[:, :, start:stop]

    with torch.inference_mode():
        made = tiled(network, Rows(256, read), 16)
        for start, stop in strips(256, 16):
            made.read(start, stop)
    assert longest <= 16 + 2 * 8


def test_other_networks_are_refused() -> None:
    assert not can_tile(nn.Identity())
    with pytest.raises(TypeError, match="Identity cannot be tiled"):
        tiled(nn.Identity(), Rows(8, lambda start, stop: torch.zeros(1, 3, stop - start, 8)), 2)
