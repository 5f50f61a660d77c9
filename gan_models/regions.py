"""Parts of a generator that a compiler takes one by one."""

from torch import nn

from gan_models.resnet import ResNetBlock, ResNetGenerator


def regions(generator: nn.Module) -> list[nn.Module]:
    """Return modules that make, called one after the other, what `generator` makes; a residual block is one of them.

    Blocks that are alike need to be compiled once for all of them. They share all weights with `generator`.
    """
    if not isinstance(generator, ResNetGenerator):
        return [generator]
    parts: list[nn.Module] = []
    ends: list[nn.Module] = []
    for layer in generator.model:
        if isinstance(layer, ResNetBlock):
            parts += [nn.Sequential(*ends), layer] if ends else [layer]
            ends = []
        else:
            ends.append(layer)
    return [*parts, nn.Sequential(*ends)]
