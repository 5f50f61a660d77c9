"""Batches of decoded images, as stages hand them to each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.engine.records.account import Batch
from pipeline.engine.records.units import Unit
from pipeline.translation.frames import Frames


def batch_of(rows: pa.Table, frames: Sequence[np.ndarray], unit: str = "000000-000000") -> Batch:
    memory = Frames(0)
    for frame in frames:
        memory.add(frame)
    return memory.of(Batch(Unit(unit, ()), rows))
