"""Loading of a state_dict into the network that it belongs to, or an error that lists everything that does not fit."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from gan_models.build import build_network
from gan_models.config import DiscriminatorConfig, GeneratorConfig

_MOST_NAMES = 5


def network_with(config: GeneratorConfig | DiscriminatorConfig, state: Mapping[str, Tensor]) -> nn.Module:
    """Return the network of `config` with the weights `state`, in evaluation mode, on the CPU.

    Draws nothing from torch's random generator. Raises ValueError of one line that lists the tensors that are missing,
    unexpected or of another shape; nothing is left out silently.
    """
    network = _outline(config)
    expected = network.state_dict()
    faults = misfits(expected, state)
    if faults:
        raise ValueError(faults)
    # Not to_empty, which imports sympy and half of torch's compiler for a second.
    copies = {
        name: state[name].detach().to("cpu", tensor.dtype, copy=True).contiguous() for name, tensor in expected.items()
    }
    network.load_state_dict(copies, assign=True)
    return network


def expected_state(config: GeneratorConfig | DiscriminatorConfig) -> dict[str, Tensor]:
    """Return names, shapes and types of the weights of `config`'s network, in order, on the meta device (no memory)."""
    return dict(_state_of_outline(config))


def misfits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Return what in `found` does not fit `expected`, as one line; empty where all fits."""
    kinds = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [f"{name} {list(found[name].shape)}" for name in found if name not in expected],
        "mis-shaped": [
            f"{name} {list(found[name].shape)} instead of {list(tensor.shape)}"
            for name, tensor in expected.items()
            if name in found and found[name].shape != tensor.shape
        ],
    }
    return "; ".join(f"{kind}: {_some(names)}" for kind, names in kinds.items() if names)


def _outline(config: GeneratorConfig | DiscriminatorConfig) -> nn.Module:
    with torch.device("meta"):
        return build_network(config).eval()


@lru_cache(maxsize=16)  # who recognises a file asks for the same few again and again
def _state_of_outline(config: GeneratorConfig | DiscriminatorConfig) -> Mapping[str, Tensor]:
    return _outline(config).state_dict()


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
