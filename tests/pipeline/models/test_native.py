"""Trunk in C: the pictures of the direct convolution, for every norm, size, batch and number of threads."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gan_models import GeneratorConfig, build_generator, translation_mode
from gan_models.config import Norm
from gan_models.translation import Statistics
from pipeline.models import measuring, native
from pipeline.models.arithmetic import exact
from pipeline.models.compiled import CannotCompileError
from pipeline.models.ends import few_outputs, rows_conv
from pipeline.models.native import NativeTrunk, with_native_trunk
from pipeline.models.translator import Translator

CONFIG = GeneratorConfig(kind="resnet", width=8, depth=2, norm="instance")
DIRECT = dataclasses.replace(exact("cpu", batch=2), threads=1)
IN_C = dataclasses.replace(DIRECT, trunk="winograd_c")

pytestmark = pytest.mark.skipif(not native.is_available(), reason="there is no C compiler here")


def generator(config: GeneratorConfig = CONFIG) -> nn.Module:
    network = build_generator(config, generator=torch.Generator().manual_seed(3))
    random = torch.Generator().manual_seed(4)
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_floating_point():  # other values than those that norms begin with
            size = 0.1 if tensor.ndim > 1 else 0.5
            drawn = torch.randn(tensor.shape, generator=random) * size + (tensor.ndim == 1)
            tensor.data = drawn.abs() + 0.5 if "var" in name else drawn
    return network


def frames(seed: int, *shape: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8))


@pytest.mark.parametrize("statistics", ["image", "running"])
@pytest.mark.parametrize(
    ("norm", "affine"),
    [("instance", False), ("instance", True), ("batch", False), ("layer", False), ("group", False), ("none", False)],
)
def test_it_makes_what_the_direct_trunk_makes(norm: Norm, affine: bool, statistics: Statistics) -> None:
    config = dataclasses.replace(CONFIG, norm=norm, affine=affine, groups=4)
    network = translation_mode(generator(config), statistics=statistics)
    in_c = with_native_trunk(network)
    assert [type(layer) for layer in in_c.model].count(NativeTrunk) == 1
    # Sizes of the trunk that are whole tiles and not, the least, and more rows of tiles than are taken at once.
    for height, width in ((32, 48), (28, 36), (8, 8), (8, 1080)):
        x_NCHW = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(height)) * 2 - 1
        with torch.inference_mode():
            expected, found = network(x_NCHW), in_c(x_NCHW)
        assert expected.std() > 0.01
        assert torch.allclose(found, expected, atol=2e-4)


def test_more_tiles_than_fit_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network, (first, *_) = generator(), frames(0, 1, 64, 64)
    whole = Translator.of(network, CONFIG, IN_C).all([first])
    monkeypatch.setattr(native, "_MOST_TILES", 4)
    assert np.abs(Translator.of(network, CONFIG, IN_C).all([first]).astype(int) - whole).max() <= 1


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_neighbours_place_and_threads_change_no_bit_of_what_is_in_c(threads: int) -> None:
    translator = Translator.of(generator(), CONFIG, IN_C)
    a, b, c = frames(1, 3, 24, 40)
    alone = translator.all([a])[0]
    for group in ([a, b], [b, a], [c, a]):
        found = translator.all(group)
        assert np.array_equal(found[[image is a for image in group].index(True)], alone)
    x_HWC = torch.randn(24, 40, 32, generator=torch.Generator().manual_seed(5))
    trunk = next(
        layer for layer in with_native_trunk(translation_mode(generator())).model if isinstance(layer, NativeTrunk)
    )
    found_HWC, sums = trunk._convolve(x_HWC, None, trunk._layers[0][0][0])
    assert torch.allclose(sums[0], found_HWC.double().sum((0, 1)), rtol=1e-12, atol=1e-9)
    assert torch.allclose(sums[1], found_HWC.double().square().sum((0, 1)), rtol=1e-12)


def test_what_is_no_number_stays_none() -> None:
    """Only so is a picture that overflows found to be at fault."""
    network = with_native_trunk(translation_mode(generator()))
    x_NCHW = torch.zeros(2, 3, 16, 16)
    x_NCHW[1, 0, 5, 5] = torch.nan
    with torch.inference_mode():
        found = network(x_NCHW)
    assert found[0].isfinite().all()
    assert found[1].isnan().all()


@pytest.mark.parametrize("config", [dataclasses.replace(CONFIG, width=5), GeneratorConfig(depth=2, width=4)])
def test_other_generators_stay_as_they_are(config: GeneratorConfig) -> None:
    network = translation_mode(generator(config))
    x_NCHW = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(with_native_trunk(network)(x_NCHW), network(x_NCHW), atol=1e-4)


def test_it_follows_no_training_and_leaves_the_generator_alone() -> None:
    network = translation_mode(generator())
    names = [name for name, _ in network.named_modules()]
    with_native_trunk(network)
    assert [name for name, _ in network.named_modules()] == names


@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_to_few_channels_by_rows(bias: bool) -> None:
    conv = nn.Conv2d(8, 3, (7, 5), bias=bias)
    x_NCHW = torch.randn(2, 8, 20, 17)
    with torch.inference_mode():
        assert few_outputs(conv)
        assert torch.allclose(rows_conv(conv)(x_NCHW), conv(x_NCHW), atol=1e-5)


@pytest.mark.parametrize("options", [{"stride": 2}, {"padding": 1}, {"dilation": 2}, {"groups": 2}])
def test_other_convolutions_do_not_fit(options: dict[str, int]) -> None:
    assert not few_outputs(nn.Conv2d(4, 2, 3, **options))  # type: ignore[arg-type]
    assert not few_outputs(nn.Conv2d(4, 16, 3))


class TestWithoutACompiler:
    @pytest.fixture(autouse=True)
    def empty(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        native._library.cache_clear()
        yield
        native._library.cache_clear()

    def test_it_is_left_out_and_refused_where_it_is_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(native.shutil, "which", lambda name: None)
        assert not native.is_available()
        assert {form.trunk for form in measuring.forms("cpu", kind="resnet")} == {"direct", "winograd"}
        with pytest.raises(ValueError, match="needs a C compiler"):
            measuring.forms("cpu", kind="resnet", trunk="winograd_c")
        with pytest.raises(CannotCompileError, match="there is no C compiler here"):
            with_native_trunk(translation_mode(generator()))

    def test_a_compiler_that_fails_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ended = subprocess.CompletedProcess([], 1, "", "error: unknown\n  option")
        monkeypatch.setattr(native.subprocess, "run", lambda *_, **__: ended)
        with pytest.raises(CannotCompileError, match="failed: error: unknown option"):
            native._library()

    def test_the_code_is_compiled_once(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        assert native.is_available()
        native._library.cache_clear()
        monkeypatch.setattr(native, "_compile", lambda: pytest.fail("compiled again"))
        assert native.is_available()
        assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".so"]
