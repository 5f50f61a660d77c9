"""Parts of the networks that are frozen, that is, do not learn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn


def freeze(networks: Mapping[str, nn.Module], names: Iterable[str]) -> None:
    """Freeze everything called `names`: networks (`g`), or what lies below a prefix in one (`g.model.1`).

    Frozen parameters no longer require a gradient. A frozen batch norm still normalises with the batch, but its running
    statistics stay as they are. Raises a one-line ValueError for a name that does not exist; the message lists those
    that do.
    """
    for name in names:
        _check_exists(networks, name)
        for network_name, network in networks.items():
            for path, module in network.named_modules(prefix=network_name):
                if _is_within(path, name) and isinstance(module, nn.BatchNorm2d):
                    module.track_running_stats = False
            for path, parameter in network.named_parameters(prefix=network_name):
                if _is_within(path, name):
                    parameter.requires_grad_(False)
    if not any(parameter.requires_grad for network in networks.values() for parameter in network.parameters()):
        raise ValueError(f"freeze is {' '.join(names)}: nothing is left to learn; leave out one of them")


def _check_exists(networks: Mapping[str, nn.Module], name: str) -> None:
    known = [path for key, network in networks.items() for path, _ in network.named_parameters(prefix=key)]
    if any(_is_within(path, name) for path in known):
        return
    parent = name
    while parent:
        parent = parent.rpartition(".")[0]
        children = dict.fromkeys(_child(path, parent) for path in known if not parent or path.startswith(f"{parent}."))
        if children:
            raise ValueError(
                f"freeze names {name}: nothing that could learn is called so; {f'in {parent} ' if parent else ''}"
                f"there {'is' if len(children) == 1 else 'are'} {', '.join(children)}"
            )


def _child(path: str, parent: str) -> str:
    """Return the name of `path`, or of the module that contains it, one level below `parent`."""
    depth = parent.count(".") + 1 if parent else 0
    return ".".join(path.split(".")[: depth + 1])


def _is_within(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}.")
