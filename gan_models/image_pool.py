"""Pool of earlier translations that a discriminator sees next to the newest (Shrivastava et al. 2017, 2.3).

A pure function outside the pool decides what happens to each image. So several processes with the same images hold the
same pool, and a resumed run continues as if it had never stopped.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class PoolDecision(NamedTuple):
    """Decision of a full pool about one image."""

    keep_new: bool
    """Return the new image and leave the pool unchanged; otherwise swap it with an old one and return that."""

    slot: int = 0
    """Slot of the old image in the pool; meaningless with `keep_new`."""


def pool_decisions(seed: int, step: int, direction: str, count: int, size: int) -> list[PoolDecision]:
    """Return decisions for the `count` images of the global batch of `step`: a pure function of the arguments.

    `direction` (any label) distinguishes the pools of one step. Each decision depends on the image's position, not on
    `count`: half of the time the new image is returned, else it takes one of `size` slots at random.
    """
    return [_decide(f"{seed}/{step}/{direction}/{position}", size) for position in range(count)]


def _decide(label: str, size: int) -> PoolDecision:
    # hashlib rather than `random`: it gives the same on every Python version, platform and process.
    digest = hashlib.sha256(label.encode()).digest()
    keep_new = digest[0] < 128
    return PoolDecision(keep_new, 0 if keep_new or size == 0 else int.from_bytes(digest[1:9], "big") % size)


class ImagePool:
    """Pool of up to `size` images; with size 0 it returns what it gets."""

    images: Tensor | None
    """Images held, [n, C, H, W] with n ≤ size; None while there are none."""

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"the pool's size is {size}: it must be 0 (no pool) or more")
        self.size = size
        self.images = None

    def __len__(self) -> int:
        return 0 if self.images is None else len(self.images)

    def query(self, images_NCHW: Tensor, decisions: Sequence[PoolDecision]) -> Tensor:
        """Return images for the discriminator, [N, C, H, W], one for each of `images_NCHW`, in order, detached.

        While the pool fills, each image is stored and returned unchanged, and its decision is ignored. After that, its
        decision says whether it is returned, or swapped for an old one. Images of one batch meet: a later one can swap
        out an earlier one. All images must have one shape.
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

    def exchange(self, images_NCHW: Tensor, keep_new_N: Tensor, slots_N: Tensor) -> Tensor:
        """Do what `query` does in a full pool, with decisions that are tensors on the images' device.

        No value is read on the host, so that it can be captured in a CUDA graph.
        """
        held, seen = self.images, []
        if held is None or len(held) < self.size:
            raise ValueError("the image pool is not full yet: use query")
        for image_1CHW, keep_new, slot in zip(images_NCHW.detach().split(1), keep_new_N, slots_N.split(1), strict=True):
            old_1CHW = held.index_select(0, slot)
            seen.append(torch.where(keep_new, image_1CHW, old_1CHW))
            held.index_copy_(0, slot, torch.where(keep_new, old_1CHW, image_1CHW))
        return torch.cat(seen)

    def _check_shape(self, images_NCHW: Tensor) -> None:
        if self.images is not None and self.images.shape[1:] != images_NCHW.shape[1:]:
            held, new = list(self.images.shape[1:]), list(images_NCHW.shape[1:])
            raise ValueError(
                f"the image pool holds images of shape {held} and got {new}: train at one size, or set pool_size to 0"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs."""
        return {"size": self.size, "images": None if self.images is None else self.images.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load `state`. Raises ValueError where it comes from a pool of another size."""
        if state["size"] != self.size:
            raise ValueError(f"the saved image pool has size {state['size']} and this one {self.size}: keep pool_size")
        images = state["images"]
        self.images = None if images is None else images.clone()
