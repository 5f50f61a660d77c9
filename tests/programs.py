"""Generators as functions, for tests: factories of a device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def inverted(device: str) -> Callable[[Tensor], Tensor]:
    """Return a function that inverts uint8 images."""
    return lambda x_NCHW: 255 - x_NCHW


def darker(device: str) -> Callable[[Tensor], Tensor]:
    """Return a function that halves images in [0, 1], whose height and width are multiples of 8."""

    def halve(x_NCHW: Tensor) -> Tensor:
        assert [side % 8 for side in x_NCHW.shape[2:]] == [0, 0]
        return x_NCHW / 2

    return halve


def less_the_mean(device: str) -> Callable[[Tensor], Tensor]:
    """Return a function that takes the mean of the batch from each image."""
    return lambda x_NCHW: x_NCHW - x_NCHW.mean((0, 2, 3), keepdim=True)


def cropped(device: str) -> Callable[[Tensor], Tensor]:
    """Return a function that gives smaller images than it takes."""
    return lambda x_NCHW: x_NCHW[:, :, 1:, 1:]


def nothing(device: str) -> None:
    """Return no function."""


def failing(device: str) -> Callable[[Tensor], Tensor]:
    """Return a function that takes no images at all."""

    def fail(x_NCHW: Tensor) -> Tensor:
        raise ValueError(f"no weights for {x_NCHW.shape[2]} rows")

    return fail


def brightness(device: str) -> Callable[[Tensor], Tensor]:
    """Return a function that embeds images in [0, 1] by the mean of each channel."""
    return lambda x_NCHW: x_NCHW.mean((2, 3))


def three_numbers(device: str) -> Callable[[Tensor], Tensor]:
    """Return a function that gives boxes of three numbers."""
    return lambda x_NCHW: x_NCHW[:, 0, :, :3]


NOT_CALLABLE = torch.zeros(1)
