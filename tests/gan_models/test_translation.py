"""Translation mode: no result depends on other images; batch norm takes the image's own or running statistics."""

import pytest
import torch
from torch import nn

from gan_models import GeneratorConfig, build_generator, translation_mode

NORMS = ["batch", "layer", "instance", "group", "none"]


def trained(config: GeneratorConfig) -> nn.Module:
    """Return a generator in training mode whose batch norms have seen data and whose biases are not zero."""
    torch.manual_seed(3)
    network = build_generator(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        network(torch.randn(4, 3, 32, 32))
    return network


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", ["unet", "resnet"])
def test_an_image_is_bit_equal_alone_and_among_fifteen_others(kind: str, norm: str, dtype: torch.dtype) -> None:
    config = GeneratorConfig(kind=kind, depth=3, width=4, norm=norm, groups=2, dropout=True)
    translator = translation_mode(trained(config)).to(dtype)
    images = torch.randn(16, 3, 32, 32, dtype=dtype)
    alone = torch.zeros_like(images)
    alone[5] = images[5]

    with torch.inference_mode():
        assert torch.equal(translator(images)[5], translator(alone)[5])


@pytest.mark.parametrize("kind", ["unet", "resnet"])
def test_own_statistics_are_those_of_training_mode_at_batch_one(kind: str) -> None:
    network = trained(GeneratorConfig(kind=kind, depth=4, width=4, norm="batch"))
    images = torch.randn(3, 3, 32, 32)

    with torch.no_grad():
        translated = translation_mode(network)(images)
        one_by_one = torch.cat([network(image[None]) for image in images])

    torch.testing.assert_close(translated, one_by_one, rtol=1e-4, atol=1e-5)


def test_running_statistics_are_those_of_evaluation_mode() -> None:
    network = trained(GeneratorConfig(depth=4, width=4, norm="batch", dropout=True))
    images = torch.randn(2, 3, 32, 32)

    with torch.no_grad():
        running = translation_mode(network, statistics="running")(images)
        own = translation_mode(network)(images)
        assert torch.equal(running, network.eval()(images))
        assert not torch.allclose(running, own, atol=1e-3)


def test_the_generator_stays_in_training_mode_and_shares_its_weights() -> None:
    network = trained(GeneratorConfig(depth=3, width=4, norm="batch", dropout=True))
    translator = translation_mode(network)
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = translator(image)
        for parameter in network.parameters():
            parameter.mul_(1.5)
        after = translator(image)

    assert network.training
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert not torch.equal(before, after)


def test_dropout_is_off() -> None:
    network = trained(GeneratorConfig(kind="resnet", depth=1, width=4, norm="instance", dropout=True))
    image = torch.randn(1, 3, 32, 32)

    with torch.no_grad():
        assert torch.equal(translation_mode(network)(image), translation_mode(network)(image))
        assert not torch.equal(network(image), network(image))
