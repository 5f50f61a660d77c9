"""Training step captured as a CUDA graph: at batch 1 Python and kernel launches take longer than the arithmetic.

The graph holds both forward and backward passes, the image pools and both optimisers, and is replayed with other
images, learning rates, pool decisions and random numbers. It makes what the same kernels make when they are launched
one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from gan_models import Objective, pool_decisions
from gan_models.objective import Domain, Replay
from pipeline.errors import one_line

log = logging.getLogger("transdomain")

Compute = Callable[[Tensor, Tensor, Replay | None], dict[str, Tensor]]
"""Function that does a step of the objective on real_a and real_b, with these pools or its own."""

WARM_UP = 3
"""Steps that are launched kernel by kernel before the capture, in which libraries and compiler set themselves up."""


class CapturedStep:
    """Step of one process, captured once the image pools are full, for batches of `samples` images.

    Smaller ones, such as the last one of an epoch, are computed kernel by kernel.
    """

    def __init__(self, objective: Objective, compute: Compute, samples: int) -> None:
        self._objective, self._compute, self._samples = objective, compute, samples
        self._input: _Input | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._losses: dict[str, Tensor] = {}
        self._warm = 0

    def __call__(self, real_a: Tensor, real_b: Tensor) -> dict[str, Tensor]:
        """Do a step; return its losses, which the next one overwrites."""
        filling = any(len(pool) < pool.size for pool in self._objective.pools.values())
        if filling or len(real_b) != self._samples:
            return self._compute(real_a, real_b, None)
        if self._input is None:
            self._input = _Input(self._objective, real_a, real_b)
        if not self._input.set(real_a, real_b) or self._warm > WARM_UP:
            return self._compute(real_a, real_b, None)
        if self._warm < WARM_UP:
            self._warm += 1
            return self._compute(self._input.real_a, self._input.real_b, self._input.replay)
        if self._graph is None and not self._capture(self._input):
            return self._compute(real_a, real_b, None)
        assert self._graph is not None
        self._graph.replay()
        self._objective.steps += 1
        return self._losses

    def _capture(self, given: _Input) -> bool:
        """Record the kernels of a step without running them; return False, and say why, where that fails."""
        graph, steps = torch.cuda.CUDAGraph(), self._objective.steps
        torch.cuda.synchronize()
        try:
            # Other threads, which read the next batches, may go on with what they do on the device.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._losses = self._compute(given.real_a, given.real_b, given.replay)
        except RuntimeError as error:
            self._warm = WARM_UP + 1  # not again
            log.warning(f"steps are not captured as a CUDA graph, and so are slower: {one_line(error)}")
            return False
        finally:
            self._objective.steps = steps
        self._graph = graph
        return True


class _Input:
    """Tensors that a captured step reads, always the same memory: images, and the pools' decisions."""

    def __init__(self, objective: Objective, real_a: Tensor, real_b: Tensor) -> None:
        self._objective = objective
        self.real_a, self.real_b = torch.empty_like(real_a), torch.empty_like(real_b)
        samples, device = len(real_b), real_b.device
        sizes = {domain: pool.size for domain, pool in objective.pools.items() if pool.size}
        self._keep_new = {domain: torch.zeros(samples, dtype=torch.bool, device=device) for domain in sizes}
        self._slots = {domain: torch.zeros(samples, dtype=torch.int64, device=device) for domain in sizes}

    def set(self, real_a: Tensor, real_b: Tensor) -> bool:
        """Take the images and the decisions of the next step; return False where the images have another shape."""
        if (real_a.shape, real_b.shape) != (self.real_a.shape, self.real_b.shape):
            return False
        self.real_a.copy_(real_a)
        self.real_b.copy_(real_b)
        objective = self._objective
        for domain, slots in self._slots.items():
            size = objective.pools[domain].size
            decisions = pool_decisions(objective.pool_seed, objective.steps, domain, len(slots), size)
            self._keep_new[domain].copy_(torch.tensor([decision.keep_new for decision in decisions]))
            slots.copy_(torch.tensor([decision.slot for decision in decisions]))
        return True

    def replay(self, domain: Domain, fakes_NCHW: Tensor) -> Tensor:
        """Return what the discriminator of `domain` sees, by these decisions."""
        return self._objective.pools[domain].exchange(fakes_NCHW, self._keep_new[domain], self._slots[domain])
