"""The processes that train together, as one value: with one process everything here is the identity.

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
    """A reason to end the run that the next start would find again; the message says what to do."""


class PeerError(Exception):
    """Another rank has failed, and raises its own error; a new start of all may do better."""


class Signal(IntEnum):
    """What a rank wants all to do after a step; the largest one wins."""

    GO_ON = 0
    STOP = 1
    FAIL = 2


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

    @contextlib.contextmanager
    def agreeing(self, *lasting: type[Exception]) -> Iterator[None]:
        """Raise on every rank what any rank raises in the block, so that none waits for one that has failed.

        Every rank enters and leaves the block at the same time, and exchanges nothing inside. RunError, and the kinds
        of error that are `lasting`, become a RunError on every rank, with the message of the first such rank. Any other
        error is raised where it came up, and is a PeerError on the other ranks.
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


class Agreement:
    """All ranks do the same after the same step. What one says after a step is known to all after the next.

    So the exchange goes on beside the step in between, and costs it nothing. Alone, it is known at once.
    """

    def __init__(self, group: Group) -> None:
        """Every rank must make one at the same time."""
        # A group of its own, on the CPU: the default one may be the GPUs', where reading a value holds up the step.
        self._group = dist.new_group(backend="gloo") if group.workers > 1 else None
        self._pending: tuple[dist.Work, Tensor] | None = None
        self.delay = 0 if self._group is None else 1
        """Steps after which what was exchanged is known."""

    def at_once(self, signal: Signal) -> Signal:
        """The largest signal that any rank gives now. Every rank must call it at the same time, before the steps."""
        return max(self.exchange(signal), self.settle())

    def exchange(self, signal: Signal) -> Signal:
        """The largest signal that any rank gave after the step before. Every rank must call it after every step."""
        if self._group is None:
            return signal
        before, value = self._pending, torch.tensor([int(signal)])
        self._pending = (dist.all_reduce(value, op=dist.ReduceOp.MAX, group=self._group, async_op=True), value)
        return Signal.GO_ON if before is None else _received(before)

    def settle(self) -> Signal:
        """What was given after the last step. Every rank must call it once, at the end."""
        before, self._pending = self._pending, None
        return Signal.GO_ON if before is None else _received(before)


def _received(pending: tuple[dist.Work, Tensor]) -> Signal:
    work, value = pending
    work.wait()
    return Signal(int(value))
