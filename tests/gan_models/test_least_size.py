"""Smallest image that each network can be trained on: it works, and anything smaller does not."""

from __future__ import annotations

import pytest
import torch

from gan_models import DiscriminatorConfig, GeneratorConfig
from gan_models.build import build_network


@pytest.mark.parametrize(
    ("config", "step"),
    [
        (DiscriminatorConfig(width=4, layers=1), 1),
        (DiscriminatorConfig(width=4, layers=3), 1),
        (DiscriminatorConfig(width=4, layers=4, norm="batch"), 1),
        (DiscriminatorConfig(width=4, kind="pixel"), 1),
        (GeneratorConfig(width=4, depth=1, kind="resnet", norm="instance"), 4),
        (GeneratorConfig(width=4, depth=3), 8),
    ],
)
def test_the_least_size_is_the_least_that_works(config: DiscriminatorConfig | GeneratorConfig, step: int) -> None:
    network, least = build_network(config), config.least_size
    network(torch.zeros(1, 3, least, least))
    with pytest.raises((RuntimeError, ValueError)):
        network(torch.zeros(1, 3, least - step, least - step))
