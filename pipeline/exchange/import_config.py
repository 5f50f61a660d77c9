"""Configuration of `jobs.import`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import check_range


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Checkpoints of the reference implementation that `jobs.import` reads, and the bundle that it writes."""

    input: str
    """One .pth file, or a folder of `{latest|N|iter_N}_net_{G|G_A|G_B|D|D_A|D_B}.pth`; a path or a URL."""
    output: str
    """Prefix of the model bundle."""
    epoch: str = "latest"
    """Epoch to take from a folder: the part of the file names before `_net_`, such as latest, 200 or iter_5000."""
    direction: Literal["a_to_b", "b_to_a"] = "a_to_b"
    """Direction in which G, or G_A, translates: the --direction of the reference's training. G_B does the other."""
    training_size: int = 256
    """Side of the square crops that the model was trained on, in pixels; the files do not record it."""
    dry_run: bool = False
    """Print what was recognised and write nothing."""

    def __post_init__(self) -> None:
        check_range("training_size", self.training_size, least=1)
