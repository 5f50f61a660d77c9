"""The moving average of generators' weights over the training steps (Yazıcı et al. 2019, "The unusual effectiveness of
averaging in GAN training")."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

Average = dict[str, dict[str, Tensor]]
"""By network, what a state_dict of it holds. Floating-point tensors are averages, in the weights' own fp32."""


def begin(networks: Mapping[str, nn.Module]) -> Average:
    """The average before the first step: the weights as they are."""
    return {
        name: {key: tensor.detach().clone() for key, tensor in network.state_dict().items()}
        for name, network in networks.items()
    }


@torch.no_grad()
def update(average: Average, networks: Mapping[str, nn.Module], *, decay: float, steps: int) -> None:
    """Take in the weights after the step that made it `steps` in all.

    Early on the decay is lower, so that the untrained weights are soon forgotten: (1 + steps) / (10 + steps) at most,
    as in TensorFlow's ExponentialMovingAverage. Counters are copied.
    """
    weight = 1 - min(decay, (1 + steps) / (10 + steps))
    for name, network in networks.items():
        state = network.state_dict()
        smooth = [key for key, tensor in state.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([average[name][key] for key in smooth], [state[key] for key in smooth], weight)
        for key in state.keys() - set(smooth):
            average[name][key].copy_(state[key])
