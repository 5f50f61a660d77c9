"""What this machine can do at most: dense products of matrices, and copying memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from pipeline import hardware

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_SIDE = {"cpu": 2048, "cuda": 8192}
_COPIED_BYTES = {"cpu": 1 << 28, "cuda": 1 << 32}
_CALLS = 5


def machine(device: str, load: float) -> dict[str, Any]:
    """What the numbers of a benchmark belong to."""
    return {
        "device": hardware.describe(device),
        "cores": hardware.available_cpus(),
        "torch": torch.__version__,
        "load": load,
        "cpu_capability": hardware.cpu_capability(),
    }


class Limits:
    """Operands are made once, so that each measurement is a few calls. fp32 is as torch does it by default."""

    def __init__(self, device: str, precisions: tuple[str, ...]) -> None:
        side = _SIDE[device]
        self.operands = {p: torch.randn(2, side, side, dtype=_DTYPES[p], device=device) for p in precisions}
        self.flop = 2 * side**3
        self.source = torch.zeros(_COPIED_BYTES[device], dtype=torch.uint8, device=device)
        self.target = torch.ones_like(self.source)
        self.cuda = device == "cuda"

    def matmul_flops(self, precision: str) -> float:
        """FLOP/s of a square product."""
        left, right = self.operands[precision]
        return self.flop / self._seconds(lambda: torch.mm(left, right))

    def copy_bytes(self) -> float:
        """Bytes a second, read and written ones counted."""
        return 2 * self.source.nbytes / self._seconds(lambda: self.target.copy_(self.source))

    def _seconds(self, function: Callable[[], object]) -> float:
        times = []
        for i in range(_CALLS + 1):
            started = time.perf_counter()
            function()
            if self.cuda:
                torch.cuda.synchronize()
            if i:
                times.append(time.perf_counter() - started)
        return statistics.median(times)
