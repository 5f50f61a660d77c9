"""Processes that train together, as one value; with one process all operations here are the identity.

Shapes: n is the number of samples of this rank, N of all ranks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


class RunError(Exception):
    """Error that ends the run and that the next start would meet again; the message says what to do."""


class PeerError(Exception):
    """Failure of another rank, which raises its own error; restarting all ranks may succeed."""


class Signal(IntEnum):
    """Request of a rank to all ranks after a step; the largest one wins."""

    GO_ON = 0
    STOP = 1
    FAIL = 2


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rank of this process in torch's default process group."""

    rank: int = 0
    workers: int = 1
    node: int = 0
    """Number of the machine that this process is on; processes on one machine share memory."""

    @property
    def leads(self) -> bool:
        """True where this rank logs and writes for all."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """Return the value of each rank, on every rank. For small picklable values."""
        if self.workers == 1:
            return [value]
        values: list[T | None] = [None] * self.workers
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def from_leader(self, value: T) -> T:
        """Return the value of rank 0, on every rank."""
        if self.workers == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    @contextlib.contextmanager
    def raise_on_all_ranks(self, *lasting: type[Exception]) -> Iterator[None]:
        """Raise on every rank what any rank raises in the block, so that no rank waits for one that has failed.

        Every rank enters and leaves the block at the same time, and exchanges nothing inside. RunError and the error
        types in `lasting` become a RunError on every rank, with the message of the first such rank. Any other error is
        raised where it occurred, and is a PeerError on the other ranks.
        """
        error: Exception | None = None
        try:
            yield
        except Exception as caught:  # raised again below, once all ranks know of it
            error = caught
        try:
            lasts = isinstance(error, (RunError, *lasting))
            failures = [each for each in self.gather(None if error is None else (lasts, str(error))) if each]
            if reasons := [message for lasts, message in failures if lasts]:
                raise RunError(reasons[0]) from error
            if error:
                raise error
            if failures:
                raise PeerError(failures[0][1])
        finally:
            del error  # its traceback refers to this frame, and to all that the block held

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all ranks, on every rank."""
        if self.workers > 1:
            dist.all_reduce(values)
        return values

    def gather_samples(self, samples_nCHW: Tensor, shares: Sequence[slice]) -> Tensor:
        """Return the samples of all ranks in the order of the global batch, [N, C, H, W], on every rank."""
        if self.workers == 1:
            return samples_nCHW
        most = max(part.stop - part.start for part in shares)
        padded = samples_nCHW.new_zeros(most, *samples_nCHW.shape[1:])  # a collective needs one shape on all ranks
        padded[: len(samples_nCHW)] = samples_nCHW
        received = [torch.empty_like(padded) for _ in shares]
        dist.all_gather(received, padded)
        return torch.cat([part[: share.stop - share.start] for part, share in zip(received, shares, strict=True)])


class Agreement:
    """Agreement of all ranks to do the same after the same step.

    A signal that one rank gives after a step is known to all after the next step. The exchange runs in the background
    of the step in between, and costs it nothing. With one rank, a signal is known at once.
    """

    def __init__(self, group: Group) -> None:
        """Create the agreement. Every rank must do so at the same time."""
        # A separate group on the CPU: the default one may be on GPUs, where reading a value delays the step.
        self._group = dist.new_group(backend="gloo") if group.workers > 1 else None
        self._pending: tuple[dist.Work, Tensor] | None = None
        self.delay = 0 if self._group is None else 1
        """Number of steps after which an exchanged signal is known."""

    def at_once(self, signal: Signal) -> Signal:
        """Return the largest signal that any rank gives now. Every rank must call this together, before the steps."""
        return max(self.exchange(signal), self.finish())

    def exchange(self, signal: Signal) -> Signal:
        """Return the largest signal given after the previous step. Every rank must call this after every step."""
        if self._group is None:
            return signal
        before, value = self._pending, torch.tensor([int(signal)])
        self._pending = (dist.all_reduce(value, op=dist.ReduceOp.MAX, group=self._group, async_op=True), value)
        return Signal.GO_ON if before is None else _received(before)

    def finish(self) -> Signal:
        """Return the largest signal given after the last step. Every rank must call this once, at the end."""
        before, self._pending = self._pending, None
        return Signal.GO_ON if before is None else _received(before)


def _received(pending: tuple[dist.Work, Tensor]) -> Signal:
    work, value = pending
    work.wait()
    return Signal(int(value))
