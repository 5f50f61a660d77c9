"""Time that a model takes: counted as use of its device, and compared with what was measured beforehand."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from pipeline import usage
from pipeline.cluster import hardware
from pipeline.models.arithmetic import AT_ONCE, Arithmetic, Figures, Size
from pipeline.usage import Usage

log = logging.getLogger("transdomain")

SLOWER = 3.0
"""Factor from which a device counts as much slower; less may come from what else it does."""
LEAST_S = 10.0
"""Seconds of computation before anything is said."""


class DeviceClock:
    """Seconds of a device that several threads use at once: at each moment, each has its share of them.

    So the shares add up to the time in which the device was at work for any of them.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Read the time, in seconds, from `now`."""
        self._now, self._lock = now, threading.Lock()
        self._at_work, self._shared_s, self._last_s = 0, 0.0, 0.0

    def _pass(self, began: int) -> float:
        """Count a user more or less; return the seconds that one who has been there from the start has had."""
        with self._lock:
            now = self._now()
            if self._at_work:
                self._shared_s += (now - self._last_s) / self._at_work
            self._last_s, self._at_work = now, self._at_work + began
            return self._shared_s

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Count the block's share of the device as use of this process."""
        before_s = self._pass(1)
        try:
            yield
        finally:
            usage.note(Usage(device_s=self._pass(-1) - before_s))


DEVICE = DeviceClock()
"""Clock of the device that this process computes on."""


class Pace:
    """Account of one process. Safe for several threads."""

    def __init__(
        self, arithmetic: Arithmetic, figures: Figures, flop: Callable[[float], float] = lambda pixels: 0.0
    ) -> None:
        """Compare with `figures`; say nothing where they are empty. `flop` are those of an image of so many pixels."""
        self._arithmetic, self._figures, self._flop = arithmetic, figures, flop
        self._lock, self._took_s, self._expected_s, self._said = threading.Lock(), 0.0, 0.0, False

    @contextlib.contextmanager
    def of(self, sizes: Sequence[Size]) -> Iterator[None]:
        """Time the block, in which images of these sizes are translated, and count what it uses."""
        began_s = time.monotonic()
        with DEVICE.running():
            yield
        flop = sum(self._flop(height * width) for height, width in sizes)
        usage.note(Usage(flop=flop if math.isfinite(flop) else 0.0))
        self.note(sizes, time.monotonic() - began_s)

    def note(self, sizes: Sequence[Size], seconds: float) -> None:
        """Note that images of these sizes took so long; warn once where it is much longer than what was measured."""
        pixels = sum(height * width for height, width in sizes)
        expected_s = self._figures.seconds_of(self._arithmetic.form, pixels)
        if not expected_s:
            return
        # Where fewer images are left than there are threads for, some threads have none.
        at_once = max(map(self._arithmetic.at_once, sizes))
        expected_s *= -(-len(sizes) // at_once) * at_once / len(sizes)
        with self._lock:
            self._took_s += seconds / AT_ONCE[self._arithmetic.device]
            self._expected_s += expected_s
            factor = self._took_s / self._expected_s
            if self._said or self._took_s < LEAST_S or factor < SLOWER:
                return
            self._said = True
        log.warning(
            "the model takes %.1f × as long here (%s) as was measured when the output began (%s): this machine is "
            "slower in %s, or busy with other work. The output keeps the arithmetic that it began with; another output "
            "would be measured anew",
            factor, hardware.describe(self._arithmetic.device), self._figures, self._arithmetic.form,
        )  # fmt: skip
