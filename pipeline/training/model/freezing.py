"""Parts of the networks that do not learn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn


def freeze(networks: Mapping[str, nn.Module], names: Iterable[str]) -> None:
    """Keep what is called `names` as it is: a network (`g`) or what lies below a prefix in one (`g.model.1`).

    Parameters ask for no gradient any more. A batch norm still normalises with the batch, but its running statistics
    stay. Raises ValueError of one line for a name that is not there, saying what is.
    """
    for name in names:
        _check(networks, name)
        for network_name, network in networks.items():
            for path, module in network.named_modules(prefix=network_name):
                if _lies_in(path, name) and isinstance(module, nn.BatchNorm2d):
                    module.track_running_stats = False
            for path, parameter in network.named_parameters(prefix=network_name):
                if _lies_in(path, name):
                    parameter.requires_grad_(False)
    if not any(parameter.requires_grad for network in networks.values() for parameter in network.parameters()):
        raise ValueError(f"freeze is {' '.join(names)}: nothing is left to learn; leave out one of them")


def _check(networks: Mapping[str, nn.Module], name: str) -> None:
    known = [path for key, network in networks.items() for path, _ in network.named_parameters(prefix=key)]
    if any(_lies_in(path, name) for path in known):
        return
    parent = name
    while parent:
        parent = parent.rpartition(".")[0]
        below = dict.fromkeys(_child(path, parent) for path in known if not parent or path.startswith(f"{parent}."))
        if below:
            raise ValueError(
                f"freeze names {name}: nothing that could learn is called so; {f'in {parent} ' if parent else ''}"
                f"there {'is' if len(below) == 1 else 'are'} {', '.join(below)}"
            )


def _child(path: str, parent: str) -> str:
    """The name of `path` or of what it lies in, one level below `parent`."""
    depth = parent.count(".") + 1 if parent else 0
    return ".".join(path.split(".")[: depth + 1])


def _lies_in(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}.")
