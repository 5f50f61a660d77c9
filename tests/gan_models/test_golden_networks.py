"""Networks agree with the reference: names and shapes of the weights, and output."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from gan_models import build_discriminator, build_generator, translation_mode
from tests.gan_models import golden


def build(name: str, norm: str, width: int, channels: int) -> nn.Module:
    """Build the network that the reference calls `name` (netG or netD)."""
    options = {"input_nc": channels, "output_nc": 3, "netG": name, "netD": name, "norm": norm, "ngf": width}
    options |= {"ndf": width, "no_dropout": True, "n_layers_D": 3}
    if name in ("basic", "n_layers", "pixel"):
        return build_discriminator(golden.discriminator_config(options, channels))
    return build_generator(golden.generator_config(options))


@pytest.mark.parametrize("path", golden.files("networks/*.pth"))
def test_golden_network_output(path: Path) -> None:
    saved = torch.load(path, weights_only=True, map_location=torch.get_default_device())
    name, norm, width = re.fullmatch(r"(.+)_([a-z]+)_n[gd]f(\d+)", path.stem).groups()
    network = build(name, norm, int(width), saved["x"].shape[1])
    network.load_state_dict(saved["state_dict"])

    with torch.no_grad():
        output = network.eval()(saved["x"])

    torch.testing.assert_close(output, saved["y"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("path", golden.files("networks/keys_ngf64.json"))
def test_golden_names_and_shapes_at_full_width(path: Path) -> None:
    for title, expected in json.loads(path.read_text()).items():
        name, norm = title.split("/")
        channels = next(iter(expected.values()))[1]
        with torch.device("meta"):
            network = build(name, norm, 64, channels)

        assert {key: list(tensor.shape) for key, tensor in network.state_dict().items()} == expected, title


@pytest.mark.long  # the same layers at a width of 4 are in the default run
@pytest.mark.parametrize("path", golden.files("formula_filled.json"))
def test_golden_full_width_output(path: Path) -> None:
    networks = {title: entry for title, entry in json.loads(path.read_text()).items() if re.match("[GD] ", title)}
    assert networks
    for title, entry in networks.items():
        _, name, norm, *_, width, shape = title.split(" ")
        channels, height, side = map(int, shape.split("x"))
        network = build(name, norm, int(width[3:]), channels).double()
        golden.fill(network, salt=0)
        image = golden.wave_image(1, channels, height, side, salt=0)
        # Two machines round fp32 sums differently, so the exact result is compared with the golden.
        # The formula makes a ResNet's channels almost alike, and nine instance-normalised blocks magnify rounding: the
        # golden's own is 0.021 in a pixel there, and 1e-3 in the means.
        magnifies = name.startswith("resnet") and norm == "instance"

        # In training mode at batch 1, a batch norm takes the image's own statistics, as our translation mode does.
        for mode, form in (("eval", network.eval()), ("train_bn_dropout_off", translation_mode(network))):
            with torch.no_grad():
                output = form(image.double())

            expected = entry[mode]
            assert list(output.shape) == expected["shape"], (title, mode)
            flat = output.flatten()
            means = {"mean": flat.mean().item(), "absmean": flat.abs().mean().item()}
            pixels = {"first": flat[0].item(), "mid": flat[len(flat) // 2].item(), "last": flat[-1].item()}
            assert means == pytest.approx({key: expected[key] for key in means}, abs=1e-3 if magnifies else 1e-5), title
            assert pixels == pytest.approx({key: expected[key] for key in pixels}, abs=0.03 if magnifies else 1e-5), (
                title
            )
