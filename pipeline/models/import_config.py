"""Configuration of `jobs.import`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import check_range


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Which checkpoints of the reference implementation `jobs.import` reads, and the bundle that it writes."""

    input: str
    """One .pth file, or a folder of `{latest|N|iter_N}_net_{G|G_A|G_B|D|D_A|D_B}.pth`; a path or a URL."""
    output: str
    """Prefix of the model bundle."""
    epoch: str = "latest"
    """Which files of a folder: the part of their names before `_net_`, such as latest, 200 or iter_5000."""
    direction: Literal["a_to_b", "b_to_a"] = "a_to_b"
    """What G, or G_A, translates: the --direction that the reference was trained with. G_B does the other."""
    training_size: int = 256
    """Side of the square crops that the model was trained on, in pixels; the files do not tell."""
    dry_run: bool = False
    """Say what was recognised and touch nothing."""

    def __post_init__(self) -> None:
        check_range("training_size", self.training_size, least=1)
