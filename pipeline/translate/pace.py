"""Comparison of the time that a model takes with the time that was measured when its arithmetic was chosen."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from pipeline.cluster import hardware
from pipeline.models.arithmetic import AT_ONCE, Arithmetic, Figures, Size

log = logging.getLogger("transdomain")

SLOWER = 3.0
"""Factor from which a device counts as much slower; less may come from what else it does."""
LEAST_S = 10.0
"""Seconds of computation before anything is said."""


class Pace:
    """Account of one process. Safe for several threads."""

    def __init__(self, arithmetic: Arithmetic, figures: Figures) -> None:
        """Compare with `figures`; say nothing where they are empty."""
        self._arithmetic, self._figures = arithmetic, figures
        self._lock, self._took_s, self._expected_s, self._said = threading.Lock(), 0.0, 0.0, False

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
