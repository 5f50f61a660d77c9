"""The pool of earlier translations that a discriminator sees beside the newest (Shrivastava et al. 2017, 2.3).

What the pool does with an image is decided outside it, by a pure function, so that several processes with the same
images hold the same pool and a resumed run goes on as if it had never stopped.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class PoolDecision(NamedTuple):
    """What a full pool does with one image."""

    keep_new: bool
    """Return the new image and leave the pool as it is; else swap it with an old one and return that."""

    slot: int = 0
    """The old image's place in the pool; without meaning where `keep_new`."""


def pool_decisions(seed: int, step: int, direction: str, count: int, size: int) -> list[PoolDecision]:
    """Decisions for the `count` images of the global batch of `step`: a pure function of the arguments.

    `direction` tells apart the pools of one step (any label). Each image's decision depends on its position, not on
    `count`: half of the time it is kept, else it goes to one of `size` slots at random.
    """
    return [_decide(f"{seed}/{step}/{direction}/{position}", size) for position in range(count)]


def _decide(label: str, size: int) -> PoolDecision:
    # hashlib rather than `random`: the same on every Python version, platform and process.
    digest = hashlib.sha256(label.encode()).digest()
    keep_new = digest[0] < 128
    return PoolDecision(keep_new, 0 if keep_new or size == 0 else int.from_bytes(digest[1:9], "big") % size)


class ImagePool:
    """Up to `size` images; 0 is a pool that returns what it gets."""

    images: Tensor | None
    """The images held, [n, C, H, W] with n ≤ size; None while there is none."""

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"the pool's size is {size}: it must be 0 (no pool) or more")
        self.size = size
        self.images = None

    def __len__(self) -> int:
        return 0 if self.images is None else len(self.images)

    def query(self, images_NCHW: Tensor, decisions: Sequence[PoolDecision]) -> Tensor:
        """Images for the discriminator, [N, C, H, W], one for each of `images_NCHW`, in order, detached.

        While the pool fills, an image is stored and returned as it is, and its decision is not looked at. After that
        its decision says whether it is returned or an old one in whose place it is put. Images of one batch meet:
        a later one can swap out an earlier one. All images must have one shape.
        """
        if len(decisions) != len(images_NCHW):
            raise ValueError(f"{len(images_NCHW)} images came with {len(decisions)} decisions: each image needs one")
        images_NCHW = images_NCHW.detach()
        if self.size == 0:
            return images_NCHW
        self._check_shape(images_NCHW)
        return torch.stack([self._exchange(*pair) for pair in zip(images_NCHW, decisions, strict=True)])

    def _exchange(self, image_CHW: Tensor, decision: PoolDecision) -> Tensor:
        if self.images is None:
            self.images = image_CHW[None].clone()
        elif len(self.images) < self.size:
            self.images = torch.cat([self.images, image_CHW[None]])
        elif not decision.keep_new:
            old_CHW = self.images[decision.slot].clone()
            self.images[decision.slot] = image_CHW
            return old_CHW
        return image_CHW

    def _check_shape(self, images_NCHW: Tensor) -> None:
        if self.images is not None and self.images.shape[1:] != images_NCHW.shape[1:]:
            held, new = list(self.images.shape[1:]), list(images_NCHW.shape[1:])
            raise ValueError(
                f"the image pool holds images of shape {held} and got {new}: train at one size, or set pool_size to 0"
            )

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {"size": self.size, "images": None if self.images is None else self.images.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over `state`; refused if it is of a pool of another size."""
        if state["size"] != self.size:
            raise ValueError(f"the saved image pool has size {state['size']} and this one {self.size}: keep pool_size")
        images = state["images"]
        self.images = None if images is None else images.clone()
