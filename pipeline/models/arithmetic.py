"""Settings of a translator's arithmetic, as plain data: the record of a job holds them. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.cluster.hardware import Trunk


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """Settings that decide, together with the weights, which pixels come out. Fixed before the first unit."""

    device: str
    precision: str
    threads: int | None
    """Number of CPU threads, which decides the order of some sums, and so a last bit; None on a GPU."""
    compile: bool
    trunk: Trunk
    """Way in which a ResNet's residual blocks convolve."""
    batch: int
    """Images that go through the generator at once; a smaller group is padded, so that the shape never changes."""


def exact(device: str, *, batch: int) -> Arithmetic:
    """Return the arithmetic without shortcuts, in fp32; for what is measured or looked at, not for archives."""
    return Arithmetic(device=device, precision="fp32", threads=None, compile=False, trunk="direct", batch=batch)
