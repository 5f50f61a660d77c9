"""The processes that train together, as one value: with one process everything here is the identity.

Shapes: n is the number of samples of this rank, N of all ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Group:
    """This process's place among those of torch's default process group."""

    rank: int = 0
    workers: int = 1
    node: int = 0
    """The machine that this process is on; those of one number share memory."""

    @property
    def leads(self) -> bool:
        """Whether this is the one that speaks and writes for all."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """The value of each rank, on every rank. Small picklable values."""
        if self.workers == 1:
            return [value]
        values: list[T | None] = [None] * self.workers
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def from_leader(self, value: T) -> T:
        """The value of rank 0, on every rank."""
        if self.workers == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, on every rank."""
        if self.workers > 1:
            dist.all_reduce(values)
        return values

    def gather_samples(self, samples_nCHW: Tensor, shares: Sequence[slice]) -> Tensor:
        """The samples of all ranks in the order of the global batch, [N, C, H, W], on every rank."""
        if self.workers == 1:
            return samples_nCHW
        most = max(part.stop - part.start for part in shares)
        padded = samples_nCHW.new_zeros(most, *samples_nCHW.shape[1:])  # a collective needs one shape on all ranks
        padded[: len(samples_nCHW)] = samples_nCHW
        received = [torch.empty_like(padded) for _ in shares]
        dist.all_gather(received, padded)
        return torch.cat([part[: share.stop - share.start] for part, share in zip(received, shares, strict=True)])
