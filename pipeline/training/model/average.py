"""Moving average of the generators' weights over the training steps (Yazıcı et al. 2019, "The unusual effectiveness of
averaging in GAN training")."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

Average = dict[str, dict[str, Tensor]]
"""State dict of each network, by the network's name. Floating-point tensors are averages, in fp32 like the weights."""


def begin(networks: Mapping[str, nn.Module]) -> Average:
    """Return the average before the first step: a copy of the current weights."""
    return {
        name: {key: tensor.detach().clone() for key, tensor in network.state_dict().items()}
        for name, network in networks.items()
    }


@torch.no_grad()
def update(average: Average, networks: Mapping[str, nn.Module], *, decay: float, steps: int) -> None:
    """Update the average with the weights after a step; `steps` counts the steps done, this one included.

    Early in the run the decay is lower, so that the untrained weights are soon forgotten. It is at most (1 + steps) /
    (10 + steps), as in TensorFlow's ExponentialMovingAverage. Counters are copied.
    """
    weight = 1 - min(decay, (1 + steps) / (10 + steps))
    for name, network in networks.items():
        state = network.state_dict()
        floating = [key for key, tensor in state.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([average[name][key] for key in floating], [state[key] for key in floating], weight)
        for key in state.keys() - set(floating):
            average[name][key].copy_(state[key])
