"""Configuration of `jobs.benchmark memory`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import check_range

CorpusName = Literal["photographs", "flat", "bombs", "one_group"]
JobName = Literal["pack", "native", "training", "original", "augment", "evaluate", "train", "train_streamed"]


@dataclass(frozen=True, kw_only=True)
class MemoryBenchmarkConfig:
    """Options of `jobs.benchmark memory`, which watches every process of the jobs, at their default limits."""

    corpora: tuple[CorpusName, ...] = ("photographs", "flat", "bombs", "one_group")
    """Corpora: 400 photographs of 1024 × 768; 120 flat PNGs of 2000², 12 kB each; six WebP files of 7 kB and 179
    million pixels each; photographs in one Parquet shard of 400 MB with a single row group."""
    jobs: tuple[JobName, ...] = (
        "pack", "native", "training", "original", "augment", "evaluate", "train", "train_streamed",
    )  # fmt: skip
    """Jobs over each of them. native, training and original are translations of that size, and augment translates at
    that of the training; train holds its set in memory, train_streamed reads it anew."""
    width: int = 4
    """Number of channels of the generator's first convolution."""
    blocks: int = 1
    """Number of residual blocks of the generator."""
    minutes: float = 60.0
    """Minutes in which to end. What is not done by then is ended, or left out, and shown."""
    output: str | None = None
    """Folder or URL for the numbers, as benchmark_memory.json."""
    quick: bool = False
    """Take few and small images: shows that everything runs, and measures nothing."""

    def __post_init__(self) -> None:
        check_range("width", self.width, least=1)
        check_range("blocks", self.blocks, least=1)
        check_range("minutes", self.minutes, above=0)
