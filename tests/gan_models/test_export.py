"""Exports: they give what the generator gives, at any batch and size, and say what they are."""

from __future__ import annotations

import copy
import functools
import io
import json
import logging
import sys
import warnings
from itertools import product
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from gan_models import (
    GeneratorConfig,
    build_generator,
    check_onnx,
    check_pt2,
    export_onnx,
    export_program,
    export_pt2,
    save_bundle,
    translation_mode,
)

PUBLISHED = {("unet", "batch"), ("resnet", "instance")}
SWEEP = [
    pytest.param(*each, id="-".join(each), marks=[] if each in PUBLISHED else pytest.mark.long)
    for each in product(("unet", "resnet"), ("batch", "instance", "layer", "group", "none"))
]
# Batch, and height and width in multiples beyond the smallest; none is the tracer's example. The smallest U-Net image
# has an innermost one of a single pixel, as a U-Net 256 has at 256².
SHAPES = [(1, 0, 0), (3, 0, 0), (2, 0, 3), (1, 4, 1), (5, 2, 2)]


def config_of(kind: str = "unet", norm: str = "batch", **options: Any) -> GeneratorConfig:
    return GeneratorConfig(
        **({"kind": kind, "norm": norm, "depth": 3 if kind == "unet" else 1, "width": 4, "groups": 2} | options)
    )


def trained(config: GeneratorConfig) -> nn.Module:
    """Return a generator in training mode with large weights, biases and scales of its own, and running statistics."""
    network = build_generator(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(5 if parameter.ndim > 1 else 1).add_(0.05 * torch.randn_like(parameter))
        network(torch.randn(4, config.in_channels, 32, 32))
    return network


def inputs(config: GeneratorConfig) -> list[torch.Tensor]:
    least, multiple = config.least_size, config.size_multiple
    return [
        torch.rand(batch, config.in_channels, least + rows * multiple, least + columns * multiple) * 2 - 1
        for batch, rows, columns in SHAPES
    ]


def translations(network: nn.Module, images: list[torch.Tensor]) -> list[torch.Tensor]:
    translator = translation_mode(network)
    with torch.no_grad():
        return [translator(image) for image in images]


def run_onnx(model: bytes, image: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["translation"], {"image": image.numpy()})[0])


@functools.cache
def program_of(kind: str) -> tuple[GeneratorConfig, nn.Module, nn.Module]:
    """Return a configuration, a network of it, and its program that was never in a file."""
    config = config_of(kind)
    network = trained(config)
    return config, network, export_program(network, config).module()


ONNX_SWEEP = [
    pytest.param(*each.values, id=each.id, marks=[] if each.values == ("unet", "batch") else pytest.mark.long)
    for each in SWEEP
]


@pytest.mark.parametrize(("kind", "norm"), ONNX_SWEEP)
def test_onnx_gives_what_torch_gives_at_every_size_and_batch(kind: str, norm: str) -> None:
    config = config_of(kind, norm, dropout=True)
    network = trained(config)
    model = export_onnx(network, config)

    onnx.checker.check_model(model, full_check=True)
    images = inputs(config)
    for image, expected in zip(images, translations(network, images), strict=True):
        torch.testing.assert_close(run_onnx(model, image), expected, rtol=0, atol=1e-4)
    assert check_onnx(model, network, config) < 1e-4
    assert network.training


@pytest.mark.parametrize(("kind", "norm"), SWEEP)
def test_a_program_comes_back_from_its_file_and_gives_the_same_bits(kind: str, norm: str) -> None:
    config = config_of(kind, norm, dropout=True)
    network = trained(config)
    data = export_pt2(network, config)

    program = torch.export.load(io.BytesIO(data)).module()
    images = inputs(config)
    for image, expected in zip(images, translations(network, images), strict=True):
        translated = program(image)
        assert torch.equal(translated, expected)
        assert not translated.requires_grad
    assert check_pt2(data, network, config) == 0


@pytest.mark.parametrize("kind", ["unet", "resnet"])
def test_a_program_that_was_never_in_a_file_takes_every_size_too(kind: str) -> None:
    """None of the program's checks may take a size of one multiple for an impossible one."""
    config, network, program = program_of(kind)
    images = inputs(config)

    for image, expected in zip(images, translations(network, images), strict=True):
        assert torch.equal(program(image), expected)


@pytest.mark.long
def test_channels_are_those_of_the_generator() -> None:
    config = config_of("resnet", "instance", in_channels=1, out_channels=2, affine=True)
    network = trained(config)

    assert export_program(network, config).module()(torch.zeros(1, 1, 8, 8)).shape == (1, 2, 8, 8)
    assert check_onnx(export_onnx(network, config), network, config) < 1e-4


@pytest.mark.parametrize(
    ("kind", "size", "said"),
    [("unet", 20, "= 20 to be of the form"), ("resnet", 18, "= 18 to be of the form"), ("resnet", 4, "to be >= 8")],
)
def test_a_program_refuses_a_size_that_the_generator_does_not_take(kind: str, size: int, said: str) -> None:
    _, _, program = program_of(kind)

    for shape in ((1, 3, size, 16), (1, 3, 16, size)):
        with pytest.raises(RuntimeError, match=said):
            program(torch.zeros(shape))


def test_channels_last_images_are_as_exact_as_others() -> None:
    config = config_of(norm="instance")
    network = trained(config)
    image = 1e-3 * torch.randn(2, 3, 64, 64) + 0.9  # E[x²] − E[x]² would lose the variance
    expected = translations(network, [image])[0]

    found = export_program(network, config).module()(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_network_of_another_precision_and_memory_format_is_exported_in_fp32() -> None:
    config = config_of("resnet", "instance")
    network = trained(config)
    half = copy.deepcopy(network).bfloat16().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.rand(1, 3, 16, 16)

    found = export_program(half, config).module()(image)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, translations(copy.deepcopy(half).float(), [image])[0], rtol=0, atol=1e-5)
    assert next(half.parameters()).dtype == torch.bfloat16


def test_both_files_say_what_they_are() -> None:
    config = config_of()
    network = trained(config)
    files: dict[str, bytes] = {}
    save_bundle(
        files.__setitem__,
        objective="pix2pix",
        generators={"a_to_b": (config, network.state_dict())},
        direction="a_to_b",
        training_size=64,
        provenance={},
    )
    model = onnx.load_from_string(export_onnx(network, config, notes={"direction": "a_to_b"}))
    extra = {"metadata.json": ""}
    torch.export.load(io.BytesIO(export_pt2(network, config, notes={"direction": "a_to_b"})), extra_files=extra)

    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata == json.loads(extra["metadata.json"])
    assert json.loads(metadata["architecture"]) == config.record()
    assert metadata["weights_sha256"] == json.loads(files["config.json"])["generators"]["a_to_b"]["weights_sha256"]
    assert json.loads(metadata["value_range"]) == [-1, 1]
    assert (metadata["size_multiple"], metadata["least_size"], metadata["direction"]) == ("8", "8", "a_to_b")
    for value, channels in ((model.graph.input[0], 3), (model.graph.output[0], 3)):
        dims = value.type.tensor_type.shape.dim
        assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", channels, "height", "width"]
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("image", "translation")
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]


@pytest.mark.long
def test_the_same_weights_give_the_same_bytes_and_no_path_of_this_machine() -> None:
    config = config_of(depth=2)
    network = trained(config)

    for export in (export_onnx, export_pt2):
        data = export(network, config)
        assert export(network, config) == data
        assert __file__.split("/tests/")[0].encode() not in data
    assert export_pt2(trained(config), config) != data


def test_a_check_sees_another_network() -> None:
    config = config_of(depth=2)
    network, other = trained(config), trained(config)

    assert check_pt2(export_pt2(other, config), network, config) > 1e-2
    assert check_onnx(export_onnx(other, config), network, config) > 1e-2


def test_the_exporter_says_nothing_and_leaves_loggers_as_they_were(capfd: pytest.CaptureFixture[str]) -> None:
    config = config_of(depth=2)
    level = logging.getLogger("torch.onnx").level
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_onnx(trained(config), config)

    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("torch.onnx").level == level


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_its_remedy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    config = config_of(depth=2)

    with pytest.raises(ImportError, match=rf"needs the package {name} .*: pip install 'transdomain\[onnx\]'"):
        export_onnx(build_generator(config), config)
    assert export_pt2(build_generator(config), config)


def test_more_weights_than_an_onnx_file_holds_are_refused() -> None:
    config = GeneratorConfig(width=256)
    with torch.device("meta"):
        network = build_generator(config)

    with pytest.raises(ValueError, match=r"the weights take 3.5 GB, and an ONNX file holds 2 GB; export a .pt2"):
        export_onnx(network, config)
