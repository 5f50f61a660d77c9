"""Numbers made with the reference implementation, which live outside this repository.

Their folder is `TRANSDOMAIN_GOLDENS`, by default `../shared/goldens` next to the repository. Everything is built from
the options in each file (under the reference's names), so any further file of the same form is tested, too.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_models.config import DiscriminatorConfig, GeneratorConfig

FOLDER = Path(os.environ.get("TRANSDOMAIN_GOLDENS", Path(__file__).parents[3] / "shared" / "goldens"))


def files(pattern: str) -> list[Any]:
    """Return test parameters: the files that match, or one that is skipped with the reason."""
    found = sorted(FOLDER.glob(pattern))
    if found:
        return [pytest.param(path, id=path.stem) for path in found]
    reason = f"no {pattern} in {FOLDER} (set TRANSDOMAIN_GOLDENS to the folder of the goldens)"
    return [pytest.param(None, id="absent", marks=pytest.mark.skip(reason=reason))]


def generator_config(options: Mapping[str, Any], *, reverse: bool = False) -> GeneratorConfig:
    """Return the generator of `netG`; `reverse` swaps its channels (from target to source)."""
    source, target = options["input_nc"], options["output_nc"]
    kind, size = options["netG"].split("_")
    return GeneratorConfig(
        kind=kind,
        in_channels=target if reverse else source,
        out_channels=source if reverse else target,
        width=options["ngf"],
        depth=int(math.log2(int(size))) if kind == "unet" else int(size.removesuffix("blocks")),
        norm=options["norm"],
        dropout=not options["no_dropout"],
    )


def discriminator_config(options: Mapping[str, Any], in_channels: int) -> DiscriminatorConfig:
    """Return the discriminator of `netD`; `basic` ignores `n_layers_D`."""
    return DiscriminatorConfig(
        kind="pixel" if options["netD"] == "pixel" else "patch",
        in_channels=in_channels,
        width=options["ndf"],
        layers=options["n_layers_D"] if options["netD"] == "n_layers" else 3,
        norm=options["norm"],
    )


def fill(network: nn.Module, salt: float) -> None:
    """Fill in place by the formula of `formula_filled.json`: smooth, different in every tensor, and free of any RNG."""
    for index, (name, tensor) in enumerate(network.state_dict().items()):
        if not tensor.is_floating_point():
            continue
        wave = torch.sin(0.37 * torch.arange(tensor.numel(), dtype=torch.float64) + index + salt).view(tensor.shape)
        if name.endswith("running_var"):
            tensor.copy_((1 + 0.1 * wave.abs()).float())
        elif tensor.ndim == 1 and name.endswith("weight"):
            tensor.copy_((1 + 0.05 * wave).float())
        else:
            tensor.copy_((0.05 * wave).float())


def wave_image(*shape: int, salt: float) -> Tensor:
    """Return the formula's input image, float32."""
    return torch.sin(0.013 * torch.arange(math.prod(shape), dtype=torch.float64) + salt).view(shape).float()
