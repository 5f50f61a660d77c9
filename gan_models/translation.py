"""Generator for use after training: every image's result is independent of the rest of its batch."""

import copy
from typing import Literal

from torch import nn

from gan_models.norms import GroupNorm

Statistics = Literal["image", "running"]


def translation_mode(generator: nn.Module, *, statistics: Statistics = "image") -> nn.Module:
    """Return a form of `generator` for translation: dropout off, and no image affects another in its batch.

    `statistics` is what a batch norm normalises with. `image`, the default, takes each image's own mean and variance,
    as the published pix2pix results do (its test script translates one image at a time in training mode). `running`
    takes the averages gathered in training, as `eval()` does; pix2pix results then look different, mostly worse. Other
    norms use the image's own statistics anyway.

    The result shares the weights of `generator`, which itself is unchanged; so it follows further training. At one
    batch shape and memory format, the pixels of an image are bit-equal whatever its neighbours are. (At another batch
    size, torch may choose another algorithm: pad to one shape where bits count.)
    """
    translator = copy_with_same_weights(generator)
    if statistics == "image":
        for name, module in list(translator.named_modules()):
            if isinstance(module, nn.BatchNorm2d):
                parent, _, child = name.rpartition(".")
                setattr(translator.get_submodule(parent), child, _per_image(module))
    return translator.eval()


def copy_with_same_weights(network: nn.Module) -> nn.Module:
    """Return a copy of the modules, free to be changed, over the parameters and buffers of `network`."""
    return copy.deepcopy(network, {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())})


def _per_image(norm: nn.BatchNorm2d) -> GroupNorm:
    """Return `norm` at batch 1 in training mode: one group for each channel, with the same scale and shift."""
    channels = norm.num_features
    per_image = GroupNorm(channels, channels, eps=norm.eps, affine=False)
    per_image.weight, per_image.bias = norm.weight, norm.bias
    return per_image
